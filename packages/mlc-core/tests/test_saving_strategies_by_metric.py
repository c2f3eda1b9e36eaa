"""When to save: what the monitored metric says."""

import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_core import ConfigurationError, Moment, Monitor
from mlc_core.strategies import Adaptive, Best, PerformanceBased
from mlc_core.strategies.stateless import Stateless
from mlc_core.testing.save_strategy import play
from mlc_core.testing.strategies import moments, numbered, runs

LOSS = Monitor(metric="loss", mode="min")
SCORE = Monitor(metric="score", mode="max")


def epochs(*values, monitor=LOSS):
    """Return the ends of epochs with these values of the metric."""
    return [
        Moment(
            model="m",
            epoch=epoch,
            step=epoch * 10,
            epoch_ended=True,
            metrics={} if value is None else {monitor.metric: value},
            monitor=monitor,
            best=None,
            latest=None,
        )
        for epoch, value in enumerate(values, 1)
    ]


def saved_epochs(strategy, run, saved=None):
    """Return the epochs that *strategy* saves."""
    answers = play(strategy, run, [] if saved is None else saved)
    return [one.epoch for one, answer in zip(run, answers, strict=True) if answer]


# ---------------------------------------------------------------------- adaptive


def test_settled_run_is_saved_more_and_more_rarely():
    """The interval doubles up to the longest; a plateau slightly above the best is no new best."""
    run = epochs(0.5, *[0.501] * 50)

    assert [1, 2, 4, 8, 16, 24, 32, 40, 48] == saved_epochs(Adaptive(longest=8), run)


def test_moving_run_is_saved_often():
    """It falls apart after it had settled: within a few epochs every one is saved again."""
    run = epochs(0.5, *[0.501] * 30, *[0.7 * 1.2**epoch for epoch in range(6)])

    assert [1, 2, 4, 8, 16] == saved_epochs(Adaptive(longest=16), run[:31])
    assert [1, 2, 4, 8, 16, 32, 34, 35, 36, 37] == saved_epochs(Adaptive(longest=16), run)


def test_jump_is_noticed_within_a_few_epochs():
    """Long before the interval has passed."""
    run = epochs(0.5, *[0.501] * 100, *[2.0] * 10)
    saved = saved_epochs(Adaptive(longest=64), run)

    assert [1, 2, 4, 8, 16, 32, 64] == [epoch for epoch in saved if epoch <= 101]
    assert 102 == next(epoch for epoch in saved if epoch > 101)


@given(runs())
def test_every_best_is_saved(run):
    """Whatever the interval."""
    adaptive = Adaptive()

    class Watched(Stateless):
        def should_save(self, asked):
            answer = adaptive.should_save(asked)
            best = Best().should_save(asked)
            assert best is None or best == answer.split("; ")[0]
            return answer

    play(Watched(), run, [])


@given(st.lists(st.sampled_from([0.0, 0.5, 0.5001, 3.0, math.nan, math.inf, -math.inf, None]), max_size=40))
def test_interval_has_bounds(values):
    """Without a new best, never sooner than the shortest and never later than the longest."""
    run = epochs(-math.inf, *values)
    saved = saved_epochs(Adaptive(shortest=2, longest=5), run)
    gaps = [later - earlier for earlier, later in zip(saved, [*saved[1:], len(run) + 1], strict=True)]

    assert all(2 <= gap <= 5 for gap in gaps[:-1])
    assert all(gap <= 5 for gap in gaps)


def test_adaptive_says_why():
    """The gap, and whether the metric moved."""
    run = epochs(0.5, 0.501, 0.501, 0.502, 0.6, math.nan, None)

    assert [
        "best loss so far: 0.5; 1 epoch since the last save, loss cannot be compared",
        "1 epoch since the last save, loss settled",
        None,
        "2 epochs since the last save, loss settled",
        None,
        None,
        None,
    ] == play(Adaptive(tolerance=0.2), run, [])
    assert "1 epoch since the last save, loss moved" == play(Adaptive(), epochs(0.5, 0.6), [])[1]
    nothing = attrs.evolve(run[0], monitor=None)
    assert "1 epoch since the last save, nothing monitored" == Adaptive().should_save(nothing)


def test_a_checkpoint_that_was_removed_was_saved_all_the_same():
    """Where retention leaves only an old best, it is not taken for the last save."""
    old = numbered(1, epoch=1, step=10, ended=True, measured={"loss": 0.1})
    strategy = Adaptive(longest=8)
    run = [attrs.evolve(one, best=old, latest=old) for one in epochs(*[0.5] * 40)]

    assert [1, 2, 4, 8, 16, 24, 32, 40] == [one.epoch for one in run if strategy.should_save(one)]


def test_what_others_saved_counts():
    """The gap is counted from any save."""
    other = numbered(7, epoch=3, step=30, ended=True, measured={"loss": 0.5})
    strategy = Adaptive(shortest=3)
    run = epochs(*[0.5] * 6)
    answers = [strategy.should_save(attrs.evolve(one, best=other, latest=other)) for one in run[3:]]

    assert [None, None, "3 epochs since the last save, loss settled"] == answers


# ---------------------------------------------------------------------- performance


def test_small_improvements_add_up():
    """Each is held against the best checkpoint, not against the epoch before."""
    run = epochs(1.0, 0.98, 0.96, 0.94, 0.92, 0.90, 0.899)

    assert [1, 6] == saved_epochs(PerformanceBased(improvement=0.095), run)
    assert [1, 4] == saved_epochs(PerformanceBased(improvement=0.055, relative=False), run)


def test_longest_gap_is_saved_without_improvement():
    """From the last save, whoever made it."""
    run = epochs(1.0, *[2.0] * 9)

    assert [1, 5, 9] == saved_epochs(PerformanceBased(longest=4), run)
    assert ["first loss: 1", "loss improved from 1 to 0.5"] == play(PerformanceBased(), epochs(1.0, 0.5), [])
    assert "4 epochs since the last save" == play(PerformanceBased(longest=4), run, [])[4]


@pytest.mark.parametrize(
    ("monitor", "values", "expected"),
    [
        (LOSS, (math.nan, None, 3.0, math.nan), [3]),
        (LOSS, (math.inf, 3.0, -math.inf, -math.inf), [1, 2, 3]),
        (SCORE, (-math.inf, 3.0, math.inf, math.inf), [1, 2, 3]),
        (SCORE, (0.0, 1e-9, 1e-9), [1, 2]),
        (SCORE, (1e308, -1e308, 1.7e308), [1, 3]),
    ],
)
def test_numbers_that_are_none_and_numbers_without_end(monitor, values, expected):
    """NaN and nothing are no improvement; any number is one over an infinite one."""
    assert expected == saved_epochs(PerformanceBased(), epochs(*values, monitor=monitor))


@given(runs())
def test_no_required_improvement_saves_what_best_saves(run):
    """Then it is the strategy `best`, and the gap."""
    patient = PerformanceBased(improvement=0, longest=1000)

    assert [answer is None for answer in play(Best(), run, [])] == [answer is None for answer in play(patient, run, [])]


@given(moments())
def test_no_monitor_is_no_improvement(asked):
    """Only the gap is left."""
    assert PerformanceBased(longest=2).should_save(attrs.evolve(asked, monitor=None, latest=None)) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adaptive(shortest=0), "shortest=0 must be 1 or more"),
        (lambda: Adaptive(longest=0), "longest=0 must be 1 or more"),
        (lambda: Adaptive(shortest=5, longest=4), "shortest=5 must not be above longest=4"),
        (lambda: Adaptive(tolerance=-1), "tolerance=-1 must be a number and not below 0"),
        (lambda: PerformanceBased(improvement=math.nan), "improvement=nan must be a number"),
        (lambda: PerformanceBased(longest=1.5), "longest=1.5 must be 1 or more"),
    ],
)
def test_impossible_options_are_refused(make, message):
    """When it is made."""
    with pytest.raises(ConfigurationError, match=message):
        make()
