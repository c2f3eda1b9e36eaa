"""How runs are shown to people and to programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from mlc_hooks.console import human_size
from mlc_trainer.config_files import as_data
from mlc_trainer.runs import direction, read_environment
from mlc_trainer.settings import settings_of
from mlc_trainer.words import duration, moment, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.records import Mode, Saved
    from mlc_trainer.runs import Run
    from mlc_trainer.timeline import EpochRecord

__all__ = ["all_facts", "as_row", "best_of", "checkpoint_row", "facts", "headline", "metric_rows", "progress"]

BEST = "★"


def facts(run: Run) -> dict[str, Any]:
    """Return what `mlc runs ls` knows about *run*, as plain data."""
    timeline = run.timeline
    return {
        "path": str(run.path),
        "id": run.id,
        "model": run.model_name,
        "state": run.state,
        "error": timeline.error,
        "epochs": run.done,
        "planned": run.planned,
        "monitor": None if run.monitor is None else attrs.asdict(run.monitor),
        "best": _epoch(run.best),
        "last": _epoch(run.last),
        "began_at": timeline.began_at,
        "told_at": timeline.told_at,
        "seconds": timeline.seconds,
        "seconds_per_epoch": timeline.seconds_per_epoch,
        "restarts": [attrs.asdict(one) for one in timeline.restarts],
        "checkpoints": [one.name for one in run.checkpoints],
        "problems": list(run.problems),
    }


def all_facts(run: Run) -> dict[str, Any]:
    """Return what `mlc runs show` knows about *run*, as plain data."""
    links = {entry: sorted(link for link in run.links if run.links[link] == entry) for entry in run.links.values()}
    kept = [
        {
            "name": one.name,
            "links": links.get(one.name, []),
            "epoch": one.epoch,
            "step": one.step,
            "metrics": dict(one.metrics),
            "size": one.size,
            "created_at": one.created_at,
            "reasons": list(one.reasons),
        }
        for one in run.checkpoints
    ]
    return {
        **facts(run),
        "config": None if run.config is None else as_data(run.config),
        "chosen": {} if run.config is None else {one.name: one.value for one in settings_of(run.config) if one.chosen},
        "environment": dict(read_environment(run)),
        "checkpoints": kept,
    }


def _epoch(epoch: EpochRecord | None) -> dict[str, Any] | None:
    return None if epoch is None else {"epoch": epoch.number, "step": epoch.step, "metrics": dict(epoch.metrics)}


def progress(run: Run) -> str:
    """Return the epochs that *run* has, and of how many."""
    return f"{run.done}/{run.planned}" if run.planned is not None else str(run.done)


def as_row(run: Run, name: str, best: tuple[str, EpochRecord | None] | None) -> tuple[object, ...]:
    """Return one line of the list; *best* is the metric that it is about, and the epoch where it was best."""
    timeline, told = run.timeline, ""
    last = ""
    if best is not None:
        metric, epoch = best
        told = (
            f"{metric} {number(epoch.metrics[metric])} in epoch {epoch.number}" if epoch is not None else f"{metric} –"
        )
        last = number(run.last.metrics.get(metric)) if run.last is not None else "–"
    each = duration(timeline.seconds_per_epoch)
    when = moment(timeline.told_at)
    restarts = len(timeline.restarts) or ""
    return name, run.state, progress(run), told, last, each, duration(timeline.seconds), restarts, when


def headline(run: Run) -> str:
    """Return what there is to say about *run* in a line each."""
    timeline = run.timeline
    best, monitor = run.best, run.monitor
    per_epoch = duration(timeline.seconds_per_epoch)
    lines = {
        "run": f"{run.path}: {run.state}",
        "id": run.id or "",
        "model": run.model_name,
        "epochs": f"{progress(run)}, {duration(timeline.seconds)} in all, {per_epoch} each",
        "best": f"epoch {best.number}, {monitor.metric} {number(best.metrics[monitor.metric])}"
        if best is not None and monitor is not None
        else "",
        "from": f"{moment(timeline.began_at)} to {moment(timeline.told_at)} UTC" if timeline.told_at else "",
        "error": timeline.error or "",
    }
    said = [f"{name:8} {value}" for name, value in lines.items() if value]
    for one in timeline.restarts:
        at = f", {moment(one.at)}" if one.at else ""
        more = [f"not as it was: {what}" for what in one.differences]
        if one.verdict is not None:
            more = [f"restored: {', '.join(one.restored)}", *more, f"the rest: {one.verdict}"]
        said.append(f"{'resumed':8} from {one.source} in {one.where}, step {one.step}{at}")
        said += [f"{'':10} {line}" for line in more]
    return "\n".join([*said, *(f"{'problem':8} {one}" for one in run.problems)])


def metric_rows(runs: Sequence[Run], epochs: Sequence[EpochRecord | None], *, marked: bool) -> list[tuple[str, ...]]:
    """Return a line for each metric with its value in each of *epochs*, one of each of *runs*; the best is *marked*."""
    names = dict.fromkeys(name for epoch in epochs if epoch is not None for name in epoch.metrics)
    rows = []
    for name in names:
        values = [None if epoch is None else epoch.metrics.get(name) for epoch in epochs]
        best = best_of(values, direction(name, runs)) if marked and name != "lr" else None
        rows.append(
            (name, *(f"{number(one)} {BEST}" if one is not None and one == best else number(one) for one in values))
        )
    return rows


def best_of(values: Sequence[float | None], mode: Mode | None) -> float | None:
    """Return the best of *values*, or None where it is not known what that is, or where all are the same."""
    known = [one for one in values if one is not None]
    if mode is None or len(set(known)) < 2:
        return None
    return min(known) if mode == "min" else max(known)


def checkpoint_row(saved: Saved, run: Run) -> tuple[object, ...]:
    """Return one line of the checkpoints of *run*."""
    links = ", ".join(sorted(link for link, entry in run.links.items() if entry == saved.name))
    value = None if run.monitor is None else saved.metrics.get(run.monitor.metric)
    return saved.name, links, saved.epoch, saved.step, number(value), human_size(saved.size), "; ".join(saved.reasons)
