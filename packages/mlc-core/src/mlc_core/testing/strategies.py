"""Random checkpoints, moments, states and tensors that shrink well, for Hypothesis. None of them needs torch."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from hypothesis import strategies as st

from mlc_core.protocols import TensorBytes
from mlc_core.records import FileRecord, Moment, Monitor, Saved

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["metrics", "moments", "monitors", "numbered", "runs", "saved_checkpoints", "state_trees", "tensor_files"]

METRICS = ("loss", "score")
ITEM_SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1}

COSTS = st.sampled_from([None, 0.0, 0.5, 40.0])  # seconds that a save kept the caller waiting

texts = st.text(st.characters(codec="utf-8"), max_size=8)


def monitors() -> st.SearchStrategy[Monitor]:
    """Draw what is monitored."""
    return st.builds(Monitor, metric=st.sampled_from(METRICS), mode=st.sampled_from(["min", "max"]))


def metrics() -> st.SearchStrategy[dict[str, float]]:
    """Draw what was measured: few values, so that equal ones are common; NaN, infinity, and nothing at all."""
    values = st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, -2.0, math.nan, math.inf, -math.inf])
    return st.fixed_dictionaries({}, optional=dict.fromkeys(METRICS, values))


def numbered(
    number: int,
    *,
    epoch: int | None,
    step: int | None,
    ended: bool,
    measured: Mapping[str, float],
    elapsed: float = 0.0,
) -> Saved:
    """Return the checkpoint of commit *number*, with files that do not exist."""
    return Saved(
        model="model",
        name=f"checkpoint_{number}",
        id=f"{number:032x}",
        sequence=number,
        epoch=epoch,
        step=step,
        epoch_ended=ended,
        metrics=measured,
        reasons=("drawn",),
        created_at="2024-01-01T00:00:00.000+00:00",
        elapsed=elapsed,
        items=("model",),
        files=(FileRecord(name="state.json", size=number, xxh3_128=f"{number:032x}", serializer="json"),),
    )


def saved_checkpoints(*, min_size: int = 0, max_size: int = 8) -> st.SearchStrategy[tuple[Saved, ...]]:
    """Draw the checkpoints of one directory in order of commit.

    Epochs come again and out of order, numbers have gaps, running time stands still or runs, the clock on the wall
    jumps, and files are shared.
    """
    counts = st.sampled_from([None, 0, 1, 2, 4])
    files = st.lists(st.integers(1, 4), unique=True, max_size=2)
    years = st.sampled_from([1970, 2024, 2038])
    passed = st.sampled_from([0.0, 90.0, 3600.0])
    facts = st.tuples(st.integers(1, 3), counts, counts, st.booleans(), metrics(), passed, years, files)
    return st.lists(facts, min_size=min_size, max_size=max_size).map(_number)


def _number(drawn: Sequence[Any]) -> tuple[Saved, ...]:
    found: list[Saved] = []
    for gap, epoch, step, ended, measured, passed, year, files in drawn:
        before = found[-1] if found else numbered(0, epoch=None, step=None, ended=True, measured={})
        one = numbered(
            before.sequence + gap,
            epoch=epoch,
            step=step,
            ended=ended,
            measured=measured,
            elapsed=before.elapsed + passed,
        )
        when = one.created_at.replace("2024", str(year))
        found.append(attrs.evolve(one, created_at=when, files=tuple(_file(position) for position in files)))
    return tuple(found)


def _file(number: int) -> FileRecord:
    return FileRecord(name=f"{number}.bin", size=10**number, xxh3_128=f"{number:032x}", serializer="safetensors")


@st.composite
def moments(draw: st.DrawFn) -> Moment:
    """Draw any moment: with and without epochs, steps, metrics, a monitor, checkpoints before, and an end."""
    monitor = draw(st.none() | monitors())
    saved = draw(saved_checkpoints(max_size=3))
    measured = [one for one in saved if monitor is not None and monitor.value(one.metrics) is not None]
    return Moment(
        model="model",
        epoch=draw(st.none() | st.integers(0, 12)),
        step=draw(st.none() | st.integers(0, 120)),
        epoch_ended=draw(st.booleans()),
        metrics=draw(metrics()),
        monitor=monitor,
        best=draw(st.sampled_from(measured)) if measured else None,
        latest=saved[-1] if saved else None,
        elapsed=draw(st.sampled_from([0.0, 0.25, 100.0, 86400.0, 1e9])),
        save_seconds=draw(COSTS),
        saving=draw(st.booleans()),
        exception=draw(st.sampled_from([None, None, "KeyboardInterrupt", "OutOfMemoryError"])),
    )


@st.composite
def runs(draw: st.DrawFn, *, max_epochs: int = 6, max_steps: int = 3) -> Sequence[Moment]:
    """Draw the moments of one run in their order: steps within epochs, each epoch measured when it ends.

    Running time goes on at one pace, of seconds or of hours; what a save costs changes from epoch to epoch; and the run
    may end by an exception. Nothing is saved before: `best` and `latest` are None, to be filled in by who plays the
    run.
    """
    monitor = draw(st.none() | monitors())
    steps = draw(st.integers(1, max_steps))
    pace = draw(st.sampled_from([1.0, 60.0, 3600.0]))
    found: list[Moment] = []

    def add(epoch: int, step: int, *, ended: bool, **facts: Any) -> None:
        elapsed = (found[-1].elapsed if found else 0.0) + pace
        found.append(
            Moment(
                model="model",
                epoch=epoch,
                step=step,
                epoch_ended=ended,
                monitor=monitor,
                best=None,
                latest=None,
                elapsed=elapsed,
                **facts,
            )
        )

    for epoch in range(1, draw(st.integers(0, max_epochs)) + 1):
        saving, cost = draw(st.booleans()), draw(COSTS)
        for step in range((epoch - 1) * steps + 1, epoch * steps):
            add(epoch, step, ended=False, metrics={}, saving=saving, save_seconds=cost)
        add(epoch, epoch * steps, ended=True, metrics=draw(metrics()), saving=saving, save_seconds=cost)
    ends_early = draw(st.booleans())
    if found and ends_early:
        add(found[-1].epoch or 0, found[-1].step or 0, ended=False, metrics={}, exception="KeyboardInterrupt")
    return found


def state_trees(*, max_leaves: int = 12) -> st.SearchStrategy[Any]:
    """Draw plain data of every kind that a checkpoint holds without tensors, nested."""
    hashable = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.integers(2**62, 2**66)
        | st.floats()
        | st.complex_numbers()
        | texts
        | st.sampled_from(["$tensor", "$", "", "$dict"])
        | st.binary(max_size=8)
        | texts.map(lambda text: Path(text.replace("\0", "") or "."))
    )
    keys = hashable | st.tuples(texts, st.integers())

    def nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=4).map(tuple)
            | st.dictionaries(texts, inner, max_size=4)
            | st.dictionaries(keys, inner, max_size=4)
            | st.dictionaries(keys, inner, max_size=3).map(OrderedDict)
        )

    leaves = (
        hashable
        | st.sets(keys, max_size=3)
        | st.frozensets(keys, max_size=3)
        | st.dictionaries(keys, st.integers(), max_size=3).map(Counter)
    )
    return st.recursive(leaves, nest, max_leaves=max_leaves)


@st.composite
def tensor_files(draw: st.DrawFn) -> dict[str, TensorBytes]:
    """Draw the tensors of one file: of no, one and several axes, with no element, with names of all kinds."""
    found = {}
    for name in draw(st.lists(texts.filter(lambda text: text != "__metadata__"), unique=True, max_size=5)):
        dtype = draw(st.sampled_from(sorted(ITEM_SIZES)))
        shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
        size = math.prod(shape) * ITEM_SIZES[dtype]
        found[name] = TensorBytes(dtype, shape, draw(st.binary(min_size=size, max_size=size)))
    return found
