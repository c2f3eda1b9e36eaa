"""When to save: what running time, costs, counts and the clock on the wall say."""

import math
import time
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_core import ConfigurationError, Moment
from mlc_core.strategies import Milestones, OverheadBudget, TimeBased, WallClock, YoungDaly
from mlc_core.strategies.measured import daly_interval
from mlc_core.strategies.memory import recall, remember
from mlc_core.testing.save_strategy import play
from mlc_core.testing.strategies import numbered, runs

NOTHING = Moment(model="m", epoch=None, step=None, epoch_ended=False, metrics={}, monitor=None, best=None, latest=None)


def at(seconds, **facts):
    """Return the moment after so many *seconds* of running time."""
    return attrs.evolve(NOTHING, elapsed=float(seconds), **facts)


def train(strategy, *, seconds, step, cost):
    """Return when *strategy* saves in a run of so many *seconds* of work where each save takes *cost* more."""
    elapsed, worked, known, saved = 0.0, 0.0, None, []
    while worked < seconds:
        elapsed, worked = elapsed + step, worked + step
        if strategy.should_save(at(elapsed, save_seconds=known)):
            saved.append(elapsed)
            elapsed, known = elapsed + cost, cost
    return saved, elapsed


@pytest.fixture
def in_berlin(monkeypatch):
    """A place with summer time."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Clock:
    """A clock that is set by hand."""

    now = 1_700_000_000.0

    def __call__(self):
        """Tell the time."""
        return self.now


# ---------------------------------------------------------------------- running time


def test_minutes_of_running_time():
    """From the start, then from save to save."""
    strategy = TimeBased(minutes=10)
    saved = [minute for minute in range(1, 45) if strategy.should_save(at(minute * 60))]

    assert [10, 20, 30, 40] == saved
    assert "0.5 minutes of running time since the last save" == TimeBased(minutes=0.5).should_save(at(30))


def test_any_save_puts_off_the_next():
    """Also one that another strategy wanted; not one that was removed since, for this one remembers its own."""
    other = numbered(1, epoch=1, step=1, ended=True, measured={}, elapsed=540.0)
    strategy = TimeBased(minutes=10)

    assert strategy.should_save(at(600, latest=other)) is None
    assert strategy.should_save(at(1140, latest=other))
    assert strategy.should_save(at(1200, latest=other)) is None


@given(runs(), st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=9))
def test_clock_on_the_wall_moves_nothing(run, jumps):
    """Whatever it shows, running time is what counts."""
    strategies = [TimeBased(minutes=5), OverheadBudget(), YoungDaly(mtbf_hours=1), Milestones(every=2)]
    shown = iter(jumps * 1000)
    for strategy in strategies:
        expected = play(type(strategy)(**options(strategy)), run, [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: next(shown))
            patch.setattr(time, "monotonic", lambda: next(shown))
            assert expected == play(strategy, run, [])


def options(strategy):
    """Return what *strategy* was made with."""
    return {field.name: getattr(strategy, field.name) for field in attrs.fields(type(strategy)) if field.init}


# ---------------------------------------------------------------------- what a save costs


@pytest.mark.parametrize(("percent", "cost"), [(1, 0.5), (2, 30.0), (10, 3.0), (50, 1.0), (100, 2.0)])
def test_overhead_stays_within_the_budget(percent, cost):
    """The first save, that measures, and then as many as the budget allows, and not many fewer."""
    saved, elapsed = train(OverheadBudget(percent=percent), seconds=36_000, step=1.0, cost=cost)
    spent = cost * (len(saved) - 1)

    assert 1.0 == saved[0]
    assert spent <= elapsed * percent / 100
    assert spent + 3 * cost + 0.02 * elapsed >= (elapsed - spent) * percent / 100 * 0.6


def test_overhead_says_what_it_reckons_with():
    """The cost, the budget and the time."""
    strategy = OverheadBudget(percent=10)

    assert "to measure what a save costs" == strategy.should_save(at(1))
    assert strategy.should_save(at(50, save_seconds=5.0)) is None
    assert "a save takes 5 s, at most 10 % of the 50 s since the last one" == strategy.should_save(at(51))


@pytest.mark.parametrize("make", [OverheadBudget, lambda: YoungDaly(mtbf_hours=1)])
def test_nothing_is_saved_while_a_save_is_under_way(make):
    """And what a save costs is learnt all the same."""
    strategy = make()

    assert strategy.should_save(at(1, saving=True)) is None
    assert strategy.should_save(at(10_000, saving=True, save_seconds=2.0)) is None
    assert {"last": 0.0, "cost": 2.0} == strategy.state_dict()
    assert strategy.should_save(at(10_001))


@pytest.mark.parametrize("make", [OverheadBudget, lambda: YoungDaly(mtbf_hours=1)])
def test_what_a_save_costs_is_known_after_a_restart(make):
    """The new process has saved nothing yet, and need not, to know it."""
    strategy, resumed = make(), make()
    strategy.should_save(at(1))
    strategy.should_save(at(100_000, save_seconds=20.0))
    recall(resumed, remember(strategy))

    assert resumed.should_save(at(100_010)) is None
    assert resumed.should_save(at(200_000))


def test_interval_of_young_and_daly():
    """Young's for cheap saves; Daly's terms where they are not; and never more than the time between failures."""
    assert math.isclose(math.sqrt(2 * 1 * 86_400), daly_interval(1, 86_400), rel_tol=0.01)
    assert math.isclose(daly_interval(600, 86_400), 10_182.338 - 600 + 200 + 3.928, abs_tol=0.01)
    assert 3600 == daly_interval(7200, 3600) == daly_interval(1e9, 3600)
    assert 0 == daly_interval(0, 3600)


@given(st.floats(0.1, 100), st.floats(200, 1e6))
def test_daly_loses_least(cost, mtbf):
    """By Daly's own model of the whole time, no other interval is more than a hair better."""

    def whole_time(interval):
        return mtbf * math.exp(cost / mtbf) * math.expm1((interval + cost) / mtbf) / interval

    best = daly_interval(cost, mtbf)
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert whole_time(best) <= whole_time(best * factor) * 1.001


def test_young_daly_saves_at_its_interval():
    """Measured first."""
    strategy = YoungDaly(mtbf_hours=24)
    saved, _ = train(strategy, seconds=6000, step=1.0, cost=10.0)
    gaps = [later - earlier for earlier, later in pairwise(saved[1:])]

    assert math.ceil(daly_interval(10, 86_400)) + 10 in gaps
    assert 1 == len({round(gap) for gap in gaps})
    assert "every 1.31e+03 s, for a save takes 10 s and a failure comes every 24 h" == strategy.should_save(at(1e6))


# ---------------------------------------------------------------------- milestones


def steps(strategy, numbers):
    """Return the steps among *numbers* at which *strategy* saves."""
    return [step for step in numbers if strategy.should_save(at(step, step=step))]


def test_milestones_of_pythia():
    """0, the powers of two to 512, and every 1000."""
    pythia = Milestones(at=[0], doubling_to=512, every=1000)

    assert [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000] == steps(pythia, range(3500))
    assert "milestone 4,000 steps" == pythia.should_save(at(1, step=4000))


def test_milestones_between_two_moments_are_saved_at_the_later():
    """Once, however many lie there."""
    strategy = Milestones(at=[250, 260, 1000])

    assert [300, 600, 1200, 2100] == steps(Milestones(doubling_to=512, every=1000), [0, *range(300, 2400, 300)])
    assert [300, 1200] == steps(strategy, range(0, 1500, 300))


def test_milestones_come_again_when_they_are_trained_again():
    """A run that went back reaches them again."""
    assert [10, 10] == steps(Milestones(at=[10]), [5, 10, 15, 8, 9, 10, 11])


def test_milestones_of_epochs_come_when_they_end():
    """Not in the middle of one."""
    strategy = Milestones(at=[2, 3], unit="epochs")
    asked = [at(0, epoch=epoch, epoch_ended=ended) for epoch in (1, 2, 3) for ended in (False, True)]

    assert [None, None, None, "milestone 2 epochs", None, "milestone 3 epochs"] == [
        strategy.should_save(one) for one in asked
    ]


@given(st.lists(st.integers(0, 40), max_size=30), st.sets(st.integers(0, 40), min_size=1))
def test_every_milestone_that_is_passed_is_saved(numbers, milestones):
    """At the first moment at or after it, going forward."""
    strategy = Milestones(at=sorted(milestones))
    forward = sorted(set(numbers))
    saved = steps(strategy, forward)
    first = forward[:1]
    expected = {
        next((step for step in forward if step >= one), None) for one in milestones if first and one >= first[0]
    }

    assert saved == sorted(expected - {None})


# ---------------------------------------------------------------------- the clock on the wall


def test_every_hours_by_the_clock():
    """From the first moment, then from save to save, also while nothing runs."""
    clock = Clock()
    strategy = WallClock(hours=2, clock=clock)
    answers = []
    for _ in range(9):
        answers.append(strategy.should_save(NOTHING))
        clock.now += 1800
    resumed = WallClock(hours=2, clock=clock)
    recall(resumed, remember(strategy))
    clock.now += 7200

    assert [None] * 4 + ["2 hours since the last save"] + [None] * 3 + ["2 hours since the last save"] == answers
    assert resumed.should_save(NOTHING)


def test_clock_that_jumps_saves_once():
    """Ahead: one save, whatever was left out. Back: time is counted anew, and nothing waits for the old time."""
    clock = Clock()
    strategy = WallClock(hours=1, clock=clock)
    strategy.should_save(NOTHING)
    clock.now += 10 * 3600
    assert [True, False] == [bool(strategy.should_save(NOTHING)) for _ in range(2)]
    clock.now -= 1000 * 3600
    assert [False, False] == [bool(strategy.should_save(NOTHING)) for _ in range(2)]
    clock.now += 3600
    assert [True, False] == [bool(strategy.should_save(NOTHING)) for _ in range(2)]


@given(st.lists(st.integers(-100_000, 100_000), max_size=50))
def test_clock_that_jumps_at_will_saves_no_more_than_it_went_forward(jumps):
    """Going to and fro is not time that passes: each save needs its hours since the last one or the last jump back."""
    clock = Clock()
    strategy = WallClock(hours=5, clock=clock)
    strategy.should_save(NOTHING)
    forward, saves = 0, 0
    for jump in jumps:
        clock.now += jump
        forward += max(jump, 0)
        saves += bool(strategy.should_save(NOTHING))

    assert saves <= forward / (5 * 3600)


@pytest.mark.parametrize(
    ("day", "at_times", "expected"),
    [
        ((2024, 6, 1), ["06:30", "18:00"], ["06:30", "18:00"]),
        ((2024, 3, 31), ["02:30"], ["03:30"]),  # the hour from 2 to 3 is left out
        ((2024, 10, 27), ["02:30"], ["02:30"]),  # it comes twice
        ((2024, 1, 1), ["00:00", "23:59"], ["23:59"]),
    ],
)
def test_times_of_day(in_berlin, day, at_times, expected):
    """Once each, in the place where the program runs, on days of 23 and of 25 hours too."""
    clock = Clock()
    clock.now = time.mktime((*day, 0, 0, 0, 0, 0, -1))
    strategy = WallClock(at=at_times, clock=clock)
    saved = []
    for _ in range(25 * 60):
        if strategy.should_save(NOTHING) and time.localtime(clock.now)[:3] == day:
            saved.append(time.strftime("%H:%M", time.localtime(clock.now)))
        clock.now += 60

    assert expected == saved


def test_time_of_day_says_which():
    """The last of those that passed, and none that passed before it began."""
    clock = Clock()
    strategy = WallClock(at=["12:00", "00:00"], clock=clock)
    clock.now = time.mktime((2024, 6, 1, 13, 0, 0, 0, 0, -1))
    assert strategy.should_save(NOTHING) is None
    clock.now += 86_400

    assert "it is past 12:00" == strategy.should_save(NOTHING)
    clock.now += 43_200
    assert "it is past 00:00" == strategy.should_save(NOTHING)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TimeBased(minutes=0), "minutes=0 must be a number above 0"),
        (lambda: OverheadBudget(percent=101), "percent=101 must not be above 100"),
        (lambda: YoungDaly(mtbf_hours=math.inf), "mtbf_hours=inf must be a number above 0"),
        (Milestones, "no milestones are given"),
        (lambda: Milestones(at=[-1]), "must be a list of whole numbers from 0"),
        (lambda: Milestones(at="12"), "at='12' must be a list of whole numbers"),
        (lambda: Milestones(every=0), "every=0 must be a whole number, 1 or more"),
        (lambda: Milestones(doubling_to=1.5), "doubling_to=1.5 must be a whole number"),
        (lambda: Milestones(every=5, unit="hours"), "unit='hours' must be 'epochs' or 'steps'"),
        (WallClock, "give one of them"),
        (lambda: WallClock(at=["06:30"], hours=1), "give one of them"),
        (lambda: WallClock(at=["6:30"]), "at='6:30' is no time of day"),
        (lambda: WallClock(at="06:30"), "'06:30' is one name where a list of names belongs"),
        (lambda: WallClock(hours=0), "hours=0 must be a number above 0"),
    ],
)
def test_impossible_options_are_refused(make, message):
    """When it is made."""
    with pytest.raises(ConfigurationError, match=message):
        make()
