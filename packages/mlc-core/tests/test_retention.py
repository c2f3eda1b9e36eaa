"""What is kept: a pure function with laws, and one rule that no policy can switch off."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_core import ConfigurationError, Monitor, RetentionPolicy, retention_policies
from mlc_core.retention import (
    AllOf,
    AnyOf,
    KeepAll,
    KeepBest,
    KeepBestAndLatest,
    KeepEvery,
    KeepLatest,
    KeepPareto,
    KeepRecent,
    KeepSpaced,
    KeepUnrepeated,
    KeepWithin,
    KeepWithinBudget,
    decide,
)
from mlc_core.retention.simple import rank
from mlc_core.testing.strategies import monitors, numbered, saved_checkpoints

metrics = st.sampled_from(["loss", "score"])
modes = st.sampled_from(["min", "max"])
lengths = st.dictionaries(st.integers(1, 3), st.none() | st.integers(1, 2), max_size=2)
simple = st.one_of(
    st.just(KeepAll()),
    st.just(KeepUnrepeated()),
    st.builds(KeepLatest, count=st.integers(1, 4), epoch_ends_only=st.booleans()),
    st.builds(KeepBest, metric=metrics, mode=modes, count=st.integers(1, 3)),
    st.builds(KeepBestAndLatest, metric=st.just("loss"), mode=modes, count=st.integers(1, 4)),
    st.builds(KeepBestAndLatest, count=st.integers(1, 4)),
    st.builds(KeepEvery, every=st.integers(1, 3), unit=st.sampled_from(["epochs", "steps"]), closest=st.booleans()),
    st.builds(KeepSpaced, newest=st.integers(1, 2), each=lengths, unit=st.sampled_from(["epochs", "steps", "hours"])),
    st.builds(KeepWithin, metric=metrics, mode=modes, tolerance=st.sampled_from([0, 0.25, 1])),
    st.builds(KeepRecent, hours=st.sampled_from([0, 0.5, 1])),
    st.builds(KeepWithinBudget, size=st.sampled_from([1, 110, 1100, 11110])),
    st.builds(KeepWithinBudget, size=st.sampled_from([110, 1100]), metric=metrics, mode=modes),
    st.builds(KeepPareto, metrics=st.dictionaries(metrics, modes, min_size=1)),
)
policies = st.recursive(
    simple,
    lambda inner: st.builds(lambda a, b, join: a | b if join else a & b, inner, inner, st.booleans()),
    max_leaves=4,
)


def keep(policy, saved):
    """Return the ids that *policy* keeps."""
    return set(policy.keep(saved))


@given(policies, policies, saved_checkpoints())
def test_or_keeps_what_either_keeps_and_and_what_both_keep(one, other, saved):
    """The operators are those of sets."""
    assert keep(one, saved) | keep(other, saved) == keep(one | other, saved)
    assert keep(one, saved) & keep(other, saved) == keep(one & other, saved)


@given(policies, policies, policies, saved_checkpoints())
def test_operators_have_the_laws_of_sets(a, b, c, saved):
    """They commute, associate, distribute, absorb, and repeating one changes nothing."""
    assert keep(a | b, saved) == keep(b | a, saved)
    assert keep(a & b, saved) == keep(b & a, saved)
    assert keep((a | b) | c, saved) == keep(a | (b | c), saved)
    assert keep(a & (b | c), saved) == keep((a & b) | (a & c), saved)
    assert keep(a | (a & b), saved) == keep(a, saved)
    assert keep(a | a, saved) == keep(a & a, saved) == keep(a, saved)
    assert keep(a | KeepAll(), saved) == {one.id for one in saved}
    assert keep(a & KeepAll(), saved) == keep(a, saved)


@given(policies, saved_checkpoints(), st.randoms(use_true_random=False))
def test_order_of_the_input_is_irrelevant(policy, saved, random):
    """Checkpoints are ordered by their commits, however a storage lists them."""
    shuffled = list(saved)
    random.shuffle(shuffled)

    assert decide(policy, saved) == decide(policy, shuffled)


@given(policies, saved_checkpoints(min_size=1))
def test_policies_combined_never_leave_none(policy, saved):
    """Whatever is combined, one checkpoint stays."""
    assert any(one.keep for one in decide(policy, saved))


@given(policies, saved_checkpoints(), st.sets(st.integers(0, 7)))
def test_pruning_twice_is_pruning_once(policy, saved, positions):
    """What was kept and pinned is kept again, whatever is combined.

    One policy is left out: `KeepWithin` by a share of the best, joined by `&` to one that removes the best, may measure
    by another one the second time.
    """
    pinned = {one.id for position, one in enumerate(saved) if position in positions}
    kept = tuple(one.saved for one in decide(policy, saved, pinned=pinned) if one.keep)

    assert kept == tuple(one.saved for one in decide(policy, kept, pinned=pinned) if one.keep)


@given(policies, policies, saved_checkpoints())
def test_or_never_keeps_less_and_and_never_more(one, other, saved):
    """Adding a policy by `|` removes nothing that was kept before; adding one by `&` keeps nothing new."""
    assert keep(one & other, saved) <= keep(one, saved) <= keep(one | other, saved)


def test_last_one_stays_and_the_reason_says_so():
    """A policy that keeps nothing is overruled."""
    saved = [numbered(number, epoch=number, step=None, ended=True, measured={}) for number in (1, 2)]

    assert [(False, "not kept by AnyOf(policies=())"), (True, "the last one is never removed")] == [
        (one.keep, one.reason) for one in decide(AnyOf(()), saved)
    ]


@given(saved_checkpoints(), monitors())
def test_best_has_no_better_one(saved, monitor):
    """What is ranked first is at least as good as every other number; NaN and nothing are not ranked at all."""
    ranked = rank(saved, monitor)
    numbers = [one for one in saved if one.metrics.get(monitor.metric) == one.metrics.get(monitor.metric) is not None]

    assert sorted(one.id for one in numbers) == sorted(one.id for one in ranked)
    for one in numbers:
        assert not monitor.better(one.metrics[monitor.metric], ranked[0].metrics[monitor.metric])


@given(saved_checkpoints(), monitors(), st.integers(1, 5))
def test_max_checkpoints_keeps_the_best_and_the_latest_and_no_more(saved, monitor, count):
    """As many as asked for where there are as many, the best and the latest among them, two at least if they differ."""
    kept = KeepBestAndLatest(count=count, metric=monitor.metric, mode=monitor.mode).keep(saved)
    needed = {one.id for one in (*rank(saved, monitor)[:1], *saved[-1:])}
    there = needed | set(KeepUnrepeated().keep(saved))

    assert needed <= set(kept)
    assert max(len(needed), min(count, len(there))) == len(kept)


@given(saved_checkpoints(), st.integers(1, 5))
def test_max_checkpoints_without_a_metric_keeps_the_latest(saved, count):
    """Of each moment the last, newest first."""
    unrepeated = [one.id for one in saved if one.id in KeepUnrepeated().keep(saved)]

    assert set(unrepeated[-count:]) == keep(KeepBestAndLatest(count=count), saved)


def run(*epochs, metric="loss"):
    """Return checkpoints of *epochs*, pairs of an epoch and its metric."""
    return [
        numbered(number, epoch=epoch, step=None, ended=True, measured={} if value is None else {metric: value})
        for number, (epoch, value) in enumerate(epochs, 1)
    ]


def decided(policy, saved):
    """Return the numbers of the checkpoints that are kept."""
    return [one.saved.sequence for one in decide(policy, saved) if one.keep]


def test_epoch_trained_again_replaces_the_older_one():
    """Unless the older one is the best."""
    saved = run((1, 0.5), (2, 0.1), (3, 0.4), (2, 0.3), (3, 0.2))

    assert [1, 4, 5] == decided(KeepUnrepeated(), saved)
    assert [2, 4, 5] == decided(KeepBestAndLatest(count=3, metric="loss", mode="min"), saved)
    assert [1, 2, 4, 5] == decided(KeepBestAndLatest(count=9, metric="loss", mode="min"), saved)


def test_middle_and_end_of_an_epoch_are_two_moments():
    """So are two steps, and what has neither epoch nor step is never repeated."""
    facts = [
        (1, 5, False),
        (1, 9, False),
        (1, 10, True),
        (1, 12, True),
        (1, 5, False),
        (None, 5, True),
        (None, None, True),
    ]
    saved = [
        numbered(number, epoch=epoch, step=step, ended=ended, measured={})
        for number, (epoch, step, ended) in enumerate([*facts, (None, None, True)], 1)
    ]

    assert [2, 3, 4, 5, 6, 7, 8] == decided(KeepUnrepeated(), saved)


def test_of_two_equals_the_earlier_is_the_best():
    """A plateau does not let the best checkpoint wander."""
    assert [2] == decided(KeepBest(metric="loss", mode="min"), run((1, 0.5), (2, 0.1), (3, 0.1)))
    assert [1] == decided(KeepBest(metric="loss", mode="max"), run((1, 0.5), (2, 0.1), (3, 0.5)))


def test_nan_and_missing_are_never_best():
    """Not even where nothing else is there; then the latest stays."""
    nan = float("nan")

    assert [2] == decided(KeepBest(metric="loss", mode="min"), run((1, nan), (2, 9.0), (3, None)))
    assert [2] == decided(KeepBest(metric="loss", mode="max"), run((1, nan), (2, None)))


def test_reasons_say_which_rule_kept_it():
    """Each reason once, joined, with the number that made it the best."""
    saved = run((1, 0.25), (2, 0.5))
    policy = KeepBest(metric="loss", mode="min") | KeepLatest(count=2) | KeepLatest(count=2)

    assert ["the best loss (0.25); one of the latest 2", "one of the latest 2"] == [
        one.reason for one in decide(policy, saved)
    ]
    few = KeepBestAndLatest(count=3, metric="loss", mode="min")
    assert ["the best loss (0.25); one of the latest", "the latest"] == [one.reason for one in decide(few, saved)]
    assert ["one of the best 2 by loss (0.25)", "one of the best 2 by loss (0.5)"] == [
        one.reason for one in decide(KeepBest(metric="loss", mode="min", count=2), saved)
    ]


def test_only_ends_of_epochs_when_asked():
    """What was saved in the middle does not count as one of the latest."""
    saved = [numbered(number, epoch=1, step=number, ended=number == 1, measured={}) for number in (1, 2, 3)]

    assert [1] == decided(KeepLatest(epoch_ends_only=True), saved)
    assert ["the latest at the end of an epoch"] == list(KeepLatest(epoch_ends_only=True).keep(saved).values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KeepLatest(count=0), "count=0 must be 1 or more"),
        (lambda: KeepBest(metric="a", mode="min", count=-1), "count=-1 must be 1 or more"),
        (lambda: KeepBest(metric="a", mode="best"), "mode='best' for 'a' must be 'min' or 'max'"),
        (lambda: KeepBestAndLatest(count=0), "count=0 must be 1 or more"),
        (lambda: KeepBestAndLatest(count=2, metric="a"), "metric='a' and mode=None go together"),
        (lambda: KeepBestAndLatest(count=2, metric="a", mode="up"), "mode='up' for 'a' must be"),
        (lambda: Monitor(metric="a", mode="up"), "mode='up' for 'a' must be"),
    ],
)
def test_impossible_policies_are_refused_when_made(make, message):
    """Not at the first save."""
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_policies_have_names():
    """Each can be made by name, with its options, and anybody's can be joined to ours."""
    made = [
        retention_policies().make("all"),
        retention_policies().make("best", metric="loss", mode="min"),
        retention_policies().make("best_and_latest", count=2),
        retention_policies().make("every", every=5),
        retention_policies().make("latest", count=3),
        retention_policies().make("pareto", metrics={"loss": "min"}),
        retention_policies().make("recent", hours=2),
        retention_policies().make("spaced", each={10: 2}),
        retention_policies().make("unrepeated"),
        retention_policies().make("within", metric="loss", mode="min", tolerance=0.1),
        retention_policies().make("within_budget", size="50GB"),
    ]

    assert [
        KeepAll,
        KeepBest,
        KeepBestAndLatest,
        KeepEvery,
        KeepLatest,
        KeepPareto,
        KeepRecent,
        KeepSpaced,
        KeepUnrepeated,
        KeepWithin,
        KeepWithinBudget,
    ] == [type(one) for one in made]
    assert all(isinstance(one, RetentionPolicy) for one in made)


def test_policy_is_described_once():
    """However many checkpoints it removes: its description may be long."""
    described = []

    class Silent:
        def keep(self, saved):
            return {}

        def __str__(self):
            described.append(self)
            return "silence"

    saved = run(*[(epoch, 0.5) for epoch in range(9)])

    assert ["not kept by silence"] * 8 == [one.reason for one in decide(Silent(), saved) if not one.keep]
    assert 1 == len(described)


def test_foreign_policies_can_be_joined():
    """The operators take anything that keeps."""

    @attrs.frozen
    class KeepFirst:
        def keep(self, saved):
            return {saved[0].id: "the first"} if saved else {}

    saved = run((1, 1.0), (2, 2.0), (3, 3.0))
    assert [1, 3] == decided(KeepLatest() | KeepFirst(), saved)
    assert [1] == decided(KeepAll() & KeepFirst(), saved)
    assert isinstance(KeepAll() & KeepFirst(), AllOf)
