"""What each policy keeps, by examples, and what it says of it."""

import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_core import ConfigurationError, FileRecord
from mlc_core.retention import (
    KeepBest,
    KeepEvery,
    KeepLatest,
    KeepPareto,
    KeepRecent,
    KeepSpaced,
    KeepWithin,
    KeepWithinBudget,
    decide,
)
from mlc_core.retention.budget import read_size
from mlc_core.testing.strategies import metrics, numbered, saved_checkpoints


def at_steps(*steps):
    """Return checkpoints at *steps*, the end of an epoch each, saved at one step an hour."""
    return [
        numbered(number, epoch=step, step=step, ended=True, measured={}, elapsed=3600.0 * step)
        for number, step in enumerate(steps, 1)
    ]


def measured(*values):
    """Return checkpoints with these metrics."""
    return [numbered(number, epoch=number, step=None, ended=True, measured=one) for number, one in enumerate(values, 1)]


def losses(*values):
    """Return checkpoints with these losses."""
    return measured(*({} if value is None else {"loss": value} for value in values))


def kept(policy, saved):
    """Return the numbers of the checkpoints that *policy* keeps, and why."""
    numbers = {one.id: one.sequence for one in saved}
    return {numbers[key]: reason for key, reason in policy.keep(saved).items()}


def steps_of(policy, saved):
    """Return the steps of the checkpoints that *policy* keeps, in order of commit."""
    return [one.saved.step for one in decide(policy, saved) if one.keep]


# ---------------------------------------------------------------------- every


def test_every_keeps_multiples():
    """0 is one; the middle of an epoch is no epoch, and of two with one count the newer stays."""
    saved = at_steps(0, 1, 5, 10, 12, 10)

    assert {1: "step 0, a multiple of 5", 3: "step 5, a multiple of 5", 6: "step 10, a multiple of 5"} == kept(
        KeepEvery(every=5, unit="steps"), saved
    )
    middle = [attrs.evolve(one, epoch_ended=False) for one in saved]
    assert {} == kept(KeepEvery(every=5), middle)
    assert [1, 3, 6] == sorted(kept(KeepEvery(every=5), saved))
    assert {} == kept(KeepEvery(every=1), losses(1.0)[:0])


def test_every_keeps_the_closest_where_asked():
    """Where steps do not hit the multiples; of two as close the lower."""
    saved = at_steps(3, 9, 11, 18, 26, 34)

    assert {
        1: "closest to step 0, a multiple of 10",
        2: "closest to step 10, a multiple of 10",
        4: "closest to step 20, a multiple of 10",
        5: "closest to step 30, a multiple of 10",
    } == kept(KeepEvery(every=10, unit="steps", closest=True), saved)


@given(saved_checkpoints(), st.integers(1, 5))
def test_closest_keeps_what_hits(saved, every):
    """Where a multiple is hit, looking for the closest changes nothing."""
    exact = KeepEvery(every=every, unit="steps").keep(saved)

    assert set(exact) <= set(KeepEvery(every=every, unit="steps", closest=True).keep(saved))


# ---------------------------------------------------------------------- spaced


def test_spaced_thins_out_with_age():
    """The newest, the last of each hundred for two hundreds, the last of each thousand for ever."""
    saved = at_steps(*range(0, 2401, 50))
    policy = KeepSpaced(newest=2, each={100: 2, 1000: None})

    assert [950, 1950, 2350, 2400] == steps_of(policy, saved)
    assert {
        20: "the last of steps 0–999",
        40: "the last of steps 1000–1999",
        48: "one of the 2 newest; the last of steps 2300–2399",
        49: "one of the 2 newest; the last of steps 2400–2499; the last of steps 2000–2999",
    } == kept(policy, saved)


def test_spans_of_epochs_and_of_running_time():
    """Anything that grows can be spaced."""
    saved = at_steps(1, 2, 3, 4, 5)

    assert {5: "the newest; the last of epoch 5", 4: "the last of epoch 4"} == kept(
        KeepSpaced(newest=1, each={1: 2}, unit="epochs"), saved
    )
    assert {
        5: "the newest; the last of hours 5 to 7.5",
        4: "the last of hours 2.5 to 5",
        2: "the last of hours 0 to 2.5",
    } == kept(KeepSpaced(newest=1, each={2.5: None}, unit="hours"), saved)


def test_what_is_trained_again_replaces_in_its_span():
    """Last and new are matters of commits, not of numbers."""
    saved = at_steps(10, 250, 260, 30)

    assert [260, 30] == steps_of(KeepSpaced(newest=1, each={100: None}), saved)
    assert [30] == steps_of(KeepSpaced(newest=1, each={100: 1}), saved)


@given(saved_checkpoints(), st.integers(1, 3))
def test_every_span_keeps_its_last(saved, length):
    """In each span in which something was saved, exactly its last commit stays for that reason."""
    last = {one.step // length: one.id for one in saved if one.step is not None}
    newest = {one.id for one in saved[-1:]}

    assert {*last.values(), *newest} == set(KeepSpaced(newest=1, each={length: None}).keep(saved))


# ---------------------------------------------------------------------- recent


def test_recent_is_counted_in_running_time():
    """From the latest, which always stays; what is exactly as old as allowed stays too."""
    saved = at_steps(1, 4, 8, 10)

    assert {3: "saved in the last 2 hours of running time", 4: "saved in the last 2 hours of running time"} == kept(
        KeepRecent(hours=2), saved
    )
    assert [4] == sorted(kept(KeepRecent(hours=0), saved))
    assert [1, 2, 3, 4] == sorted(kept(KeepRecent(hours=9), saved))


# ---------------------------------------------------------------------- within


def test_within_a_distance_of_the_best():
    """Absolute or as a share; NaN and nothing never are."""
    saved = losses(0.5, 0.1, math.nan, 0.15, None, 0.12)

    assert {
        2: "within 0.05 of the best loss (0.1)",
        4: "within 0.05 of the best loss (0.1)",
        6: "within 0.05 of the best loss (0.1)",
    } == kept(KeepWithin(metric="loss", mode="min", tolerance=0.05), saved)
    share = KeepWithin(metric="loss", mode="min", tolerance=0.25, relative=True)
    assert {2: "within 25 % of the best loss (0.1)", 6: "within 25 % of the best loss (0.1)"} == kept(share, saved)
    assert [1] == sorted(kept(KeepWithin(metric="loss", mode="max", tolerance=0), saved))
    assert {} == kept(share, losses(None, math.nan))


def test_nothing_but_an_equal_is_within_reach_of_infinity():
    """Where the best is infinite, a share of it would be everything."""
    saved = losses(1.0, math.inf, 5.0, math.inf)

    for relative in (True, False):
        policy = KeepWithin(metric="loss", mode="max", tolerance=0.5, relative=relative)
        assert [2, 4] == sorted(kept(policy, saved))


@given(saved_checkpoints(), st.sampled_from(["min", "max"]))
def test_within_nothing_are_the_equals_of_the_best(saved, mode):
    """The best is always within any tolerance of itself."""
    best = set(KeepBest(metric="loss", mode=mode).keep(saved))
    equals = set(KeepWithin(metric="loss", mode=mode, tolerance=0).keep(saved))

    assert best <= equals
    assert 1 >= len({one.metrics["loss"] for one in saved if one.id in equals})


# ---------------------------------------------------------------------- budget


def sized(*checkpoints):
    """Return checkpoints, each of files given by their digests, which stand for their sizes too."""
    saved = losses(*range(len(checkpoints), 0, -1))
    return [
        attrs.evolve(
            one,
            files=tuple(
                FileRecord(name=f"{position}", size=size, xxh3_128=f"{size:032x}", serializer="s")
                for position, size in enumerate(sizes)
            ),
        )
        for one, sizes in zip(saved, checkpoints, strict=True)
    ]


def test_budget_is_used_from_the_newest():
    """Until one does not fit: what is older goes too, even if it is small."""
    saved = sized([10], [500], [200], [300])

    assert {
        4: "fits into the budget: 300 of 600 bytes with those before it",
        3: "fits into the budget: 500 of 600 bytes with those before it",
    } == kept(KeepWithinBudget(size=600), saved)


def test_shared_files_cost_once():
    """A frozen backbone is on the disk once, whoever links to it."""
    saved = sized([1000, 1], [1000, 2], [1000, 3])

    assert [1, 2, 3] == sorted(kept(KeepWithinBudget(size=1006), saved))
    assert [2, 3] == sorted(kept(KeepWithinBudget(size=1005), saved))


def test_budget_keeps_the_latest_and_then_the_best():
    """The latest even if it alone is too large: without it there is nothing to go on from."""
    saved = sized([100], [101], [102], [103])
    policy = KeepWithinBudget(size=310, metric="loss", mode="max")

    assert [1, 2, 4] == sorted(kept(policy, saved))
    assert {4: "the latest, above the budget"} == kept(KeepWithinBudget(size=50), saved)


@given(saved_checkpoints(), st.integers(1, 20_000))
def test_budget_is_never_exceeded_by_two(saved, size):
    """Distinct files of what is kept fit into it, unless only one is kept."""
    ids = KeepWithinBudget(size=size).keep(saved)
    files = {(file.xxh3_128, file.size) for one in saved if one.id in ids for file in one.files}

    assert 1 >= len(ids) or sum(bytes_ for _, bytes_ in files) <= size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50GB", 50_000_000_000),
        ("1.5 kB", 1500),
        ("2KiB", 2048),
        ("3 MiB", 3 << 20),
        ("1TB", 10**12),
        ("7B", 7),
        ("1TiB", 1 << 40),
        (99, 99),
    ],
)
def test_sizes_are_numbers_or_texts(text, size):
    """Decimal as disks are sold, binary with an i."""
    assert size == read_size(text)


# ---------------------------------------------------------------------- pareto


def test_front_of_several_metrics():
    """What nothing beats; of equals the earliest; what lacks a number is not compared."""
    points = [(0.5, 0.9), (0.4, 0.8), (0.6, 0.7), (0.5, 0.9), (0.1, 0.1), (math.nan, 1.0)]
    saved = measured(*({"loss": loss, "score": score} for loss, score in points), {"loss": 0.0})

    assert {
        1: "no other is better in all: loss 0.5, score 0.9",
        2: "no other is better in all: loss 0.4, score 0.8",
        5: "no other is better in all: loss 0.1, score 0.1",
    } == kept(KeepPareto(metrics={"loss": "min", "score": "max"}), saved)


@given(st.lists(st.tuples(metrics(), st.sampled_from([0.0, 1.0, 2.0])), max_size=9), st.sampled_from(["min", "max"]))
def test_front_is_what_nothing_beats(drawn, mode):
    """As the definition says, for two and for three metrics."""
    saved = measured(*({**one, "size": size} for one, size in drawn))
    for modes in ({"loss": "min", "size": mode}, {"loss": "min", "score": mode, "size": "max"}):
        policy = KeepPareto(metrics=modes)
        known = [one for one in saved if all(monitor.value(one.metrics) is not None for monitor in policy.metrics)]

        def beats(one, other, modes=modes):
            signed = [
                (one.metrics[name] * (1 if mode == "min" else -1), other.metrics[name] * (1 if mode == "min" else -1))
                for name, mode in modes.items()
            ]
            return all(a <= b for a, b in signed) and (any(a < b for a, b in signed) or one.sequence < other.sequence)

        expected = {one.id for one in known if not any(beats(other, one) for other in known if other is not one)}
        assert expected == set(policy.keep(saved))


@given(saved_checkpoints(), st.sampled_from(["min", "max"]))
def test_front_of_one_metric_is_the_best(saved, mode):
    """With the same rule for equals."""
    assert set(KeepBest(metric="loss", mode=mode).keep(saved)) == set(KeepPareto(metrics={"loss": mode}).keep(saved))


# ---------------------------------------------------------------------- all of them


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KeepEvery(every=0), "every=0 must be 1 or more"),
        (lambda: KeepEvery(every=2, unit="hours"), "unit='hours' must be 'epochs' or 'steps'"),
        (lambda: KeepSpaced(newest=0), "newest=0 must be 1 or more"),
        (lambda: KeepSpaced(each=[100]), "each=.* must say how many spans of each length"),
        (lambda: KeepSpaced(each={0: None}), "each length=0 must be a whole number above 0"),
        (lambda: KeepSpaced(each={1.5: None}), "each length=1.5 must be a whole number above 0"),
        (lambda: KeepSpaced(each={math.inf: None}, unit="hours"), "each length=inf must be a number above 0"),
        (lambda: KeepSpaced(each={1: 0}), "each number of spans=0 must be a whole number above 0"),
        (lambda: KeepSpaced(unit="days"), "unit='days' must be 'epochs' or 'steps' or 'hours'"),
        (lambda: KeepWithin(metric="a", mode="up", tolerance=1), "mode='up' for 'a' must be"),
        (lambda: KeepWithin(metric="a", mode="min", tolerance=-1), "tolerance=-1 must be a number and not below 0"),
        (lambda: KeepWithin(metric="a", mode="min", tolerance=math.nan), "tolerance=nan must be a number"),
        (lambda: KeepRecent(hours=-1), "hours=-1 must be a number and not below 0"),
        (lambda: KeepWithinBudget(size="much"), "size='much' must be a number of bytes above 0, or a text as '50GB'"),
        (lambda: KeepWithinBudget(size=0), "size=0 must be"),
        (lambda: KeepWithinBudget(size=1, metric="a"), "metric='a' and mode=None go together"),
        (lambda: KeepWithinBudget(size=1, metric="a", mode="up"), "mode='up' for 'a' must be"),
        (lambda: KeepPareto(metrics={}), "metrics={} must say a mode for each metric"),
        (lambda: KeepPareto(metrics=["loss"]), "must say a mode for each metric"),
        (lambda: KeepPareto(metrics={"loss": "low"}), "mode='low' for 'loss' must be"),
    ],
)
def test_impossible_policies_are_refused_when_made(make, message):
    """Not at the first save."""
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize(
    "policy",
    [KeepLatest(count=3), KeepSpaced(newest=1, each={4: 2, 16: None}), KeepRecent(hours=5), KeepEvery(every=4)],
    ids=str,
)
def test_pruning_as_the_run_goes_on_is_pruning_at_the_end(policy):
    """Where what is kept depends only on what is new, a run pruned after each save ends as one pruned once."""
    saved, policy = at_steps(*range(1, 40)), policy | KeepLatest()
    there = []
    for one in saved:
        there = [decision.saved for decision in decide(policy, [*there, one]) if decision.keep]

    assert steps_of(policy, saved) == [one.step for one in there]
