"""What the lines of a journal tell: epochs, restarts, curves and times. Pure, and content with any lines."""

from __future__ import annotations

import math
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import attrs

from mlc_trainer.observers.journal import metrics_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Curve", "EpochRecord", "Restart", "Timeline", "curves", "families"]


@attrs.frozen(kw_only=True)
class EpochRecord:
    """An epoch that ended."""

    number: int
    """Counted from 1."""
    step: int
    metrics: Mapping[str, float | None]
    """What was measured; None for what is no number."""
    seconds: float | None = None
    """How long it took, without the time between a kill and the restart and without what was trained twice."""
    at: str | None = None
    """When it ended, in UTC."""


@attrs.frozen(kw_only=True)
class Restart:
    """A place where the run was resumed."""

    epoch: int
    """The one that it went on in, from 1."""
    batch: int | None = None
    """Batches of it that were trained on; None in a journal that does not say, whose *epoch* may be the one before."""
    step: int
    place: float
    """In epochs that had ended by then, with the part of the one under way."""
    source: str
    """The name of the checkpoint that it went on from."""
    differences: Sequence[str]
    """What was not as it was."""
    at: str | None
    restored: Mapping[str, str] = attrs.field(factory=dict)
    """Each part that got its state back, with its size or where it stood."""
    not_restored: Mapping[str, str] = attrs.field(factory=dict)
    """Each that did not, and why."""
    verdict: str | None = None
    """Whether the rest was expected to be equal to the bit, in words."""

    @property
    def where(self) -> str:
        """Return the epoch in words, and whether it began there."""
        return f"epoch {self.epoch}" + (" (first batch)" if self.batch == 0 else "")


@attrs.frozen
class Curve:
    """The values of *name*; where there is none, there is a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]

    @property
    def numbers(self) -> Sequence[float]:
        """The values that there are."""
        return [value for _, value in self.points if value is not None]

    @property
    def segments(self) -> Sequence[Sequence[tuple[float, float]]]:
        """The pieces between the gaps."""
        pieces = groupby(self.points, key=lambda point: point[1] is None)
        return [[(place, value) for place, value in some if value is not None] for gap, some in pieces if not gap]


@attrs.frozen(kw_only=True)
class Timeline:
    """What happened in a run, in order."""

    epochs: Sequence[EpochRecord] = ()
    """Each once: of one that was told twice, what was told last."""
    restarts: Sequence[Restart] = ()
    steps: Sequence[tuple[float, Mapping[str, float | None]]] = ()
    """What was logged within epochs, and where, in epochs."""
    latest: tuple[int, int] = (0, 0)
    """The epoch and the step of the last line."""
    ended: bool = False
    """Whether the last thing told is that it ended."""
    error: str | None = None
    """What ended it, unless that was its end."""
    began_at: str | None = None
    told_at: str | None = None
    """When the last line was written."""
    seconds: float | None = None
    """How long it trained."""

    @classmethod
    def read(cls, journal: Iterable[Mapping[str, Any]]) -> Timeline:
        """Return what *journal* tells; lines that make no sense tell nothing."""
        lines = [line for line in journal if _makes_sense(line)]
        if not lines:
            return cls()
        seconds, total = _seconds(lines)
        epochs = {line["epoch"]: line for line in lines if line.get("event") == "epoch"}
        per_epoch = next((line["step"] / line["epoch"] for line in epochs.values() if line["epoch"] * line["step"]), 0)

        def place(line: Mapping[str, Any]) -> float:
            return line["step"] / per_epoch if per_epoch else float(max(0, line["epoch"] - 1))

        logged = {line["step"]: line for line in lines if line.get("event") == "step"}
        times = [line["at"] for line in lines if _time(line) is not None]
        last = lines[-1]
        return cls(
            epochs=tuple(_epoch(epochs[number], seconds.get(number)) for number in sorted(epochs)),
            restarts=tuple(_restart(line, place(line)) for line in lines if line.get("event") == "resumed"),
            steps=tuple(
                (place(logged[step]) if per_epoch else float(step), _numbers(logged[step])) for step in sorted(logged)
            ),
            latest=(last["epoch"], last["step"]),
            ended=last.get("event") == "ended",
            error=_text(last.get("error")) if last.get("event") == "ended" else None,
            began_at=times[0] if times else None,
            told_at=times[-1] if times else None,
            seconds=total,
        )

    @property
    def metrics(self) -> Sequence[str]:
        """The names of what was measured, in the order of their first epochs."""
        return list(dict.fromkeys(name for epoch in self.epochs for name in epoch.metrics))

    @property
    def seconds_per_epoch(self) -> float | None:
        """The median of those epochs whose time is known."""
        known = sorted(epoch.seconds for epoch in self.epochs if epoch.seconds is not None)
        return known[len(known) // 2] if known else None


def curves(timeline: Timeline, names: Iterable[str]) -> Sequence[Curve]:
    """Return the curve over epochs of each of *names*; an epoch without a number, or without a line, is a gap."""
    ends = {epoch.number: epoch.metrics for epoch in timeline.epochs}
    numbers = range(min(ends), max(ends) + 1) if ends and max(ends) - min(ends) < 10 * len(ends) else sorted(ends)
    return [Curve(name, [(float(one), ends.get(one, {}).get(name)) for one in numbers]) for name in names]


def families(names: Sequence[str]) -> Sequence[Sequence[str]]:
    """Return *names* in groups that belong into one picture: `val_dice` with `val_dice_grey`."""
    found: dict[str, list[str]] = {}
    for name in sorted(names, key=len):
        head = next((one for one in found if name.startswith(f"{one}_")), name)
        found.setdefault(head, []).append(name)
    order = list(names)
    return [
        sorted(members, key=order.index) for _, members in sorted(found.items(), key=lambda one: order.index(one[0]))
    ]


def _epoch(line: Mapping[str, Any], seconds: float | None) -> EpochRecord:
    at = line["at"] if _time(line) else None
    return EpochRecord(number=line["epoch"], step=line["step"], metrics=_numbers(line), seconds=seconds, at=at)


def _restart(line: Mapping[str, Any], place: float) -> Restart:
    changed, batch = line.get("differences"), line.get("batch")
    told = isinstance(batch, int) and batch >= 0
    return Restart(
        epoch=line["epoch"] + (1 if told and not batch else 0),  # a line between two epochs has the one that ended
        batch=batch if told else None,
        step=line["step"],
        place=place,
        source=_text(line.get("from")) or "a checkpoint",
        differences=[str(one) for one in changed] if isinstance(changed, list) else [],
        at=line["at"] if _time(line) else None,
        restored=_texts(line.get("restored")),
        not_restored=_texts(line.get("not_restored")),
        verdict=_text(line.get("verdict")),
    )


def _texts(value: object) -> dict[str, str]:
    return {name: str(one) for name, one in value.items()} if isinstance(value, dict) else {}


def _numbers(line: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers in *line*; null is one that was not finite, and a text is none."""
    return {
        name: _number(one)
        for name, one in metrics_of(line).items()
        if one is None or (isinstance(one, (int, float)) and not isinstance(one, bool))
    }


def _number(value: float | None) -> float | None:
    try:
        return float(value) if value is not None and math.isfinite(value) else None
    except OverflowError:
        return None


def _seconds(lines: Sequence[Mapping[str, Any]]) -> tuple[dict[int, float], float | None]:
    """Return how long each epoch took whose every line has a time, and how long all did."""
    found: dict[int, float] = {}
    spent: float | None = None
    whole, total = 0.0, None
    before: datetime | None = None
    for line in lines:
        now = _time(line)
        if line.get("event") in {"started", "resumed"}:
            spent = 0.0 if line["step"] == 0 else spent
        elif now is None or before is None:
            spent = None
        else:
            passed = max(0.0, (now - before).total_seconds())
            spent = None if spent is None else spent + passed
            whole += passed
            total = whole
        before = now
        if line.get("event") == "epoch":
            if spent is not None:
                found[line["epoch"]] = spent
            spent = None if now is None else 0.0
    return found, total


def _time(line: Mapping[str, Any]) -> datetime | None:
    try:
        found = datetime.fromisoformat(line["at"])
    except (KeyError, TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else None


def _makes_sense(line: Mapping[str, Any]) -> bool:
    return isinstance(line.get("event"), str) and _is_count(line.get("epoch")) and _is_count(line.get("step"))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53


def _text(value: object) -> str | None:
    return None if value is None else str(value)
