"""What the lines of a journal tell, whatever happened to them."""

import json
import math
import string
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_trainer import RunRecord, read_journal
from mlc_trainer.engine import Position
from mlc_trainer.observers import Journal, journal
from mlc_trainer.timeline import Timeline, curves, families

NAMES = st.text(string.ascii_lowercase + "_", min_size=1, max_size=6).filter(lambda one: one not in {"at", "step"})
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
COUNTS = st.integers(0, 12) | ANYTHING
LINES = st.builds(
    lambda event, epoch, step, at, rest: {**rest, "event": event, "epoch": epoch, "step": step, **at},
    st.sampled_from(["started", "step", "epoch", "checkpoint", "resumed", "ended"]) | ANYTHING,
    COUNTS,
    COUNTS,
    st.just({}) | st.builds(lambda at: {"at": at}, ANYTHING | st.datetimes().map(datetime.isoformat)),
    st.dictionaries(NAMES | st.sampled_from(["differences", "from", "error"]), ANYTHING, max_size=4),
)
RECORD = RunRecord(
    id="1", directory=Path(), model_name="m", num_epochs=0, batches_per_epoch=0, resumed_from=None, differences=()
)


def epoch_line(number, **metrics):
    """Return the line of an epoch of three steps."""
    return {"event": "epoch", "epoch": number, "step": 3 * number, **metrics}


@given(lines=st.lists(LINES, max_size=12))
def test_any_lines_are_read(lines):
    """In any order, with anything in them: epochs are told once and in order, and every number is one."""
    timeline = Timeline.read(lines)
    numbers = [one.number for one in timeline.epochs]

    assert sorted(set(numbers)) == numbers
    for curve in curves(timeline, timeline.metrics):
        assert all(map(math.isfinite, curve.numbers))
        assert curve.numbers == [value for segment in curve.segments for _, value in segment]
    assert all(math.isfinite(one.place) for one in timeline.restarts)
    assert timeline.seconds is None or timeline.seconds >= 0


@given(lines=st.lists(LINES, max_size=8), order=st.randoms())
def test_restarts_are_told_wherever_their_lines_are(lines, order):
    """As many as there are lines that make sense."""
    resumed = [{"event": "resumed", "epoch": epoch, "step": 3 * epoch, "from": "x"} for epoch in range(3)]
    mixed = [*lines, *resumed]
    order.shuffle(mixed)

    assert {0, 3, 6} <= {one.step for one in Timeline.read(mixed).restarts}


@given(cut=st.integers(0, 2000), values=st.lists(st.none() | st.floats(allow_nan=False), min_size=1, max_size=6))
def test_torn_journal_tells_the_first_epochs(tmp_path_factory, cut, values):
    """Wherever a crash tore it: what is whole is told, and the rest is not made up."""
    file = tmp_path_factory.mktemp("torn") / "metrics.jsonl"
    lines = [epoch_line(number, val_loss=value) for number, value in enumerate(values, 1)]
    whole = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file.write_bytes(whole[:cut])
    found = Timeline.read(read_journal(file)).epochs

    assert len(found) == whole[:cut].count(b"\n")
    assert Timeline.read(lines).epochs[: len(found)] == found


@given(
    per_epoch=st.integers(1, 4),
    num_epochs=st.integers(1, 4),
    every=st.integers(1, 5),
    deaths=st.lists(st.integers(0, 16), max_size=4),
)
def test_time_and_epochs_of_a_run_that_is_killed(tmp_path_factory, per_epoch, num_epochs, every, deaths):
    """A step takes a second: neither the day between kill and restart counts, nor what was trained twice."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_now", clock)
        watcher = Journal(tmp_path_factory.mktemp("clock") / "metrics.jsonl")
        saved = None
        for death in [*deaths, None]:
            saved = live(watcher, clock, saved, per_epoch=per_epoch, num_epochs=num_epochs, every=every, death=death)
            clock.now += timedelta(days=1)
    timeline = Timeline.read(read_journal(watcher._path))

    assert list(range(1, num_epochs + 1)) == [one.number for one in timeline.epochs]
    assert [float(per_epoch)] * num_epochs == [one.seconds for one in timeline.epochs]
    assert per_epoch * num_epochs == timeline.seconds
    assert all(one.place == one.step / per_epoch for one in timeline.restarts)
    assert (timeline.ended, timeline.error) == (True, None)


class Clock:
    """Says what time it is."""

    def __init__(self):
        self.now = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def __call__(self):
        """Return it as a journal has it."""
        return self.now.isoformat()


def live(watcher, clock, saved, *, per_epoch, num_epochs, every, death):
    """Train until the end, or until step *death*, and return the position that was saved last."""
    at = saved or Position()
    source = None if saved is None else f"step_{saved.step}"
    watcher.run_started(RunRecord(**{**vars_of(RECORD), "resumed_from": source}), at)
    while at.epoch < num_epochs:
        if death is not None and at.step >= death:
            return saved
        clock.now += timedelta(seconds=1)
        at = Position(epoch=at.epoch, batch=at.batch + 1, step=at.step + 1)
        watcher.step_logged(at, {"loss": 1.0})
        if at.batch == per_epoch:
            at = Position(epoch=at.epoch + 1, batch=0, step=at.step)
            watcher.epoch_ended(at, {"val_loss": 1.0})
        if at.step % every == 0 or at.batch == 0:
            watcher.checkpoint_saved(at, "somewhere")
            saved = at
    watcher.run_ended(at, None)
    return saved


def vars_of(record):
    """Return the fields of *record*."""
    return {one.name: getattr(record, one.name) for one in record.__attrs_attrs__}


def test_what_was_told_twice_counts_once():
    """What was told last."""
    timeline = Timeline.read([epoch_line(1, val_loss=1.0), epoch_line(2, val_loss=2.0), epoch_line(1, val_loss=0.5)])

    assert [(1, 0.5), (2, 2.0)] == [(one.number, one.metrics["val_loss"]) for one in timeline.epochs]


def test_missing_metrics_are_gaps():
    """So is null, which is what a journal has for what is not finite, and an epoch without a line."""
    lines = [
        epoch_line(1, a=1.0, b=1.0),
        epoch_line(2, a=None, b=10**400),
        epoch_line(3, a=3.0, b=math.nan),
        epoch_line(5, a=5.0),
    ]
    first, second = curves(Timeline.read(lines), ["a", "b"])

    assert [(1.0, 1.0), (2.0, None), (3.0, 3.0), (4.0, None), (5.0, 5.0)] == first.points
    assert [[(1.0, 1.0)], [(3.0, 3.0)], [(5.0, 5.0)]] == first.segments
    assert [1.0] == second.numbers


def test_journal_without_times_has_no_durations():
    """As those that were written before there were any."""
    timeline = Timeline.read([epoch_line(1), {"event": "ended", "epoch": 1, "step": 3, "error": "KeyError: 'a'"}])

    assert (None, None, None, None) == (
        timeline.seconds,
        timeline.seconds_per_epoch,
        timeline.began_at,
        timeline.epochs[0].seconds,
    )
    assert (True, "KeyError: 'a'") == (timeline.ended, timeline.error)


@given(names=st.lists(NAMES, unique=True, max_size=8))
def test_every_metric_is_in_one_family(names):
    """In that of the shortest name that it goes on from."""
    found = families(names)

    assert sorted(names) == sorted(name for members in found for name in members)
    assert all(name.startswith(min(members, key=len)) for members in found for name in members)


def test_families_keep_the_order():
    """That in which things are measured."""
    assert [["val_hd"], ["val_dice", "val_dice_grey", "val_dice_white"]] == families(
        ["val_hd", "val_dice", "val_dice_grey", "val_dice_white"]
    )
