"""When to save: the built-in answers, one by one."""

import math
from itertools import pairwise

import attrs
import pytest
from hypothesis import given

from mlc_core import ConfigurationError, Moment, Monitor, save_strategies
from mlc_core.options import choose_monitor, choose_strategy
from mlc_core.strategies import (
    Adaptive,
    All,
    AllOf,
    AnyOf,
    Best,
    Epoch,
    FromFunction,
    Interval,
    Milestones,
    OnException,
    OnSignal,
    OverheadBudget,
    PerformanceBased,
    TimeBased,
    WallClock,
    YoungDaly,
)
from mlc_core.strategies.memory import recall, remember
from mlc_core.testing.save_strategy import play
from mlc_core.testing.strategies import moments, numbered, runs

SCORE = Monitor(metric="score", mode="max")


def moment(epoch=None, step=None, *, ended=True, monitor=None, best=None, **metrics):
    """Return a moment."""
    before = None if best is None else numbered(1, epoch=0, step=0, ended=True, measured={"score": best})
    return Moment(
        model="m",
        epoch=epoch,
        step=step,
        epoch_ended=ended,
        metrics=metrics,
        monitor=monitor,
        best=before,
        latest=before,
    )


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (moment(1, monitor=SCORE, score=0.5), "best score so far: 0.5"),
        (moment(1, monitor=SCORE, best=0.4, score=0.5), "best score so far: 0.5"),
        (moment(1, monitor=SCORE, best=0.5, score=0.5), None),
        (moment(1, monitor=SCORE, best=0.6, score=0.5), None),
        (moment(1, monitor=SCORE, score=math.nan), None),
        (moment(1, monitor=SCORE, best=math.nan, score=0.1), "best score so far: 0.1"),
        (moment(1, monitor=SCORE, other=1.0), None),
        (moment(1, monitor=SCORE, best=0.1, score=math.inf), "best score so far: inf"),
        (moment(1, score=0.5), None),
    ],
)
def test_best(asked, answer):
    """Strictly better than at any checkpoint before; NaN and nothing never are."""
    assert answer == Best().should_save(asked)


def test_epoch():
    """At the end of each, and not in the middle."""
    assert ["end of the epoch", None] == [Epoch().should_save(moment(1, 5, ended=ended)) for ended in (True, False)]


def test_interval():
    """Epochs count when they end, steps whenever they come, and what has no number is never due."""
    by_epoch = [Interval(every=3).should_save(moment(epoch)) for epoch in range(7)]
    by_step = [Interval(every=2, unit="steps").should_save(moment(1, step, ended=False)) for step in range(4)]

    assert [None, None, None, "every 3 epochs", None, None, "every 3 epochs"] == by_epoch
    assert [None, None, "every 2 steps", None] == by_step
    assert Interval(every=1).should_save(moment(1, ended=False)) is None
    assert Interval(every=1).should_save(moment(None, 4)) is None
    assert Interval(every=1, unit="steps").should_save(moment(1)) is None


@given(moments())
def test_all_is_best_or_epoch(asked):
    """It saves when either would."""
    assert (Best().should_save(asked) or Epoch().should_save(asked)) == All().should_save(asked)


def test_any_of_gives_all_reasons():
    """And asks each, so that those with a memory miss nothing."""
    both = AnyOf((Best(), Interval(every=2), Epoch()))

    assert both.should_save(moment(2, monitor=SCORE, score=1.0)) == (
        "best score so far: 1; every 2 epochs; end of the epoch"
    )
    assert both.should_save(moment(3, ended=False)) is None


class Counting:
    """Every third moment."""

    seen = 0

    def should_save(self, _):
        """Count."""
        self.seen += 1
        return "third" if self.seen % 3 == 0 else None

    def state_dict(self):
        """Remember."""
        return {"seen": self.seen}

    def load_state_dict(self, state):
        """Go on."""
        self.seen = state["seen"]


class AlsoCounting(Counting):
    """Another one with the same state."""


def test_memory_is_taken_only_by_its_own_kind():
    """A state of another class, even of the same shape, is left alone."""
    counting, other = Counting(), AlsoCounting()
    counting.seen = 7
    recall(other, remember(counting))

    assert 0 == other.seen


def test_parts_of_a_combination_remember_by_kind():
    """One that was exchanged begins anew, one that was added too, the others go on."""
    before = AnyOf((Counting(), Counting(), Epoch()))
    before.strategies[0].seen, before.strategies[1].seen = 4, 5
    after = AnyOf((AlsoCounting(), Counting(), Epoch(), Counting()))
    recall(after, remember(before))

    assert [0, 5, 0] == [after.strategies[position].seen for position in (0, 1, 3)]


@given(runs())
def test_best_saves_are_a_record(run):
    """The metrics at the saves of `best` get strictly better, and nothing that is saved elsewhere is better."""
    saved = []
    play(Best(), run, saved)
    monitor = run[0].monitor if run else None
    values = [one.metrics[monitor.metric] for one in saved]

    assert all(monitor.better(later, than=earlier) for earlier, later in pairwise(values))
    if monitor is not None:
        seen = [value for one in run if (value := monitor.value(one.metrics)) is not None]
        assert bool(seen) == bool(values)
        assert not any(monitor.better(value, than=values[-1]) for value in seen)


@pytest.mark.parametrize("options", [{"every": 0}, {"every": -1}, {"unit": "hours"}])
def test_impossible_interval_is_refused(options):
    """When it is made."""
    with pytest.raises(ConfigurationError, match=r"every=.* must be 1 or more and unit=.* must be 'epochs' or 'steps'"):
        Interval(**options)


def test_strategies_have_names():
    """Each can be made by name, with its options."""
    needed = {"milestones": {"every": 5}, "wall_clock": {"hours": 2}, "young_daly": {"mtbf_hours": 8}}
    plain = ("adaptive", "all", "best", "epoch", "interval", "on_exception", "overhead_budget", "performance_based")
    made = [save_strategies().make(name, **needed.get(name, {})) for name in (*plain, "time_based", *needed)]

    assert [
        Adaptive(),
        All(),
        Best(),
        Epoch(),
        Interval(every=5),
        OnException(),
        OverheadBudget(),
        PerformanceBased(),
        TimeBased(),
        Milestones(every=5),
        WallClock(hours=2),
        YoungDaly(mtbf_hours=8),
    ] == made
    assert Interval(every=7, unit="steps") == save_strategies().make("interval", every=7, unit="steps")
    with save_strategies().make("on_signal", signals=["SIGUSR2"]) as strategy:
        assert isinstance(strategy, OnSignal)


@given(moments())
def test_only_one_strategy_saves_because_of_an_exception(asked):
    """What the others count has not come when the training breaks off."""
    end = attrs.evolve(asked, exception="MemoryError")
    others = [
        Adaptive(),
        All(),
        Best(),
        Epoch(),
        FromFunction(lambda _: True),
        Interval(every=1),
        Milestones(every=1),
        OverheadBudget(),
        PerformanceBased(),
        TimeBased(minutes=1e-9),
        WallClock(hours=1e-9),
        YoungDaly(mtbf_hours=1),
    ]

    assert [None] * len(others) == [one.should_save(end) for one in others]
    assert "MemoryError ends the training" == OnException().should_save(end)


def test_operators_join_strategies():
    """As they join policies; one of somebody else's can be on the right."""
    either, both = Best() | Counting(), Epoch() & Interval(every=2)

    assert isinstance(either, AnyOf)
    assert isinstance(both, AllOf)
    assert [None, None, "third"] == [either.should_save(moment(epoch)) for epoch in range(3)]
    assert "end of the epoch; every 2 epochs" == both.should_save(moment(2))
    assert both.should_save(moment(3)) is None
    assert AllOf(()).should_save(moment(1)) is None
    assert "end of the epoch" == (Epoch() | Epoch()).should_save(moment(1))


def test_a_save_that_was_not_made_does_not_count():
    """Every 30 minutes, but only at the end of an epoch: at the first end after the 30 minutes."""
    strategy = TimeBased(minutes=30) & Epoch()
    ends = {20, 35, 50, 70}
    minutes = range(5, 75, 5)
    asked = [attrs.evolve(moment(1, ended=minute in ends), elapsed=60.0 * minute) for minute in minutes]
    saved = [minute for minute, one in zip(minutes, asked, strict=True) if strategy.should_save(one)]

    assert [35, 70] == saved


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        (Best(), "best"),
        (Adaptive(), "adaptive"),
        (PerformanceBased(), "performance_based"),
        (Epoch() | (Epoch() & PerformanceBased()), "performance_based"),
    ],
)
def test_strategies_that_need_a_metric_say_so(strategy, name):
    """When the manager is made, also in combinations."""
    with pytest.raises(ConfigurationError, match=f"save_strategy='{name}' needs a metric"):
        choose_monitor(None, None, strategy)
    assert choose_monitor("score", "max", strategy) == SCORE


def test_strategy_is_a_name_an_object_or_a_function():
    """And nothing else: a class is a slip of the pen."""

    def every_second(asked):
        return asked.epoch % 2 == 0

    assert Best() == choose_strategy("best")
    assert Interval(every=3) == choose_strategy(Interval(every=3))
    assert FromFunction(every_second) == choose_strategy(every_second)
    for wrong in (Best, 5, None, ["best"]):
        with pytest.raises(ConfigurationError, match="must be a name as 'best', a strategy as"):
            choose_strategy(wrong)


def test_half_a_memory_is_refused_whole():
    """What cannot be gone on from changes nothing."""
    strategy = Adaptive()
    strategy.should_save(moment(1, monitor=SCORE, score=0.5))
    before = strategy.state_dict()

    for wrong in ({}, {**before, "value": "high"}, {**before, "interval": [1]}):
        with pytest.raises((KeyError, TypeError)):
            strategy.load_state_dict(wrong)
        assert before == strategy.state_dict()
