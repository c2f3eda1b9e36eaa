"""Which charts a run gets, and what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_trainer.charts import Chart, Line
from mlc_trainer.timeline import Curve, curves, families
from mlc_trainer.words import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_trainer.runs import Run

__all__ = ["charts_of"]

MOST_POINTS = 1000
WHOLES = ("train_loss", "val_loss")


def charts_of(run: Run) -> Sequence[Chart]:
    """Return loss, its components, what else is measured, and the learning rate of *run*, as far as there are any."""
    names = run.timeline.metrics
    wholes = [name for name in WHOLES if name in names]
    parts = [name for name in names if name.endswith("_loss") and name not in WHOLES]
    others = [name for name in names if name not in {*wholes, *parts, "lr"}]
    groups: list[tuple[str, Sequence[str]]] = [("Loss", wholes), ("Parts of the loss", parts)]
    groups += [(members[0].replace("_", " "), members) for members in families(others)]
    charts = [_over_epochs(run, title, members) for title, members in groups if members]
    return [*charts, *_over_steps(run, with_losses=not charts)]


def _over_epochs(run: Run, title: str, names: Sequence[str]) -> Chart:
    kinds = list(dict.fromkeys(map(_kind, names)))
    paired = len(kinds) < len(names)  # train and val of the same thing have the same colour
    found = curves(run.timeline, names)
    lines = [
        Line(
            curve=curve,
            label=curve.name.replace("_", " "),
            colour=kinds.index(_kind(curve.name)) if paired and len(kinds) > 1 else place,
            dashed=paired and curve.name.startswith("train_"),
        )
        for place, curve in enumerate(found)
    ]
    best, monitor = run.best, run.monitor
    point = None
    if best is not None and monitor is not None and monitor.metric in names:
        value = best.metrics[monitor.metric]
        if value is not None:
            point = (float(best.number), value, f"best: {monitor.metric} {number(value)} in epoch {best.number}")
    return Chart(title=title, lines=lines, marks=_marks(run), best=point)


def _over_steps(run: Run, *, with_losses: bool) -> Sequence[Chart]:
    """Return what was logged within epochs: the rate, and the losses where no epoch has ended yet."""
    steps = run.timeline.steps
    names = list(dict.fromkeys(name for _, values in steps for name in values))
    across = "epoch" if run.timeline.epochs else "step"
    groups = [("Loss", [name for name in names if name.endswith("loss")])] if with_losses else []
    rates, per_epoch = sum("lr" in values for _, values in steps), "lr" in run.timeline.metrics
    by_epoch = per_epoch and rates < len(run.timeline.epochs)  # seldom logged: a point or two would be all of it
    groups.append(("Learning rate", [name for name in names if name == "lr" and not by_epoch]))
    every = max(1, -(-len(steps) // MOST_POINTS))
    charts = []
    for title, members in groups:
        lines = [
            Line(
                curve=Curve(name, [(place, values.get(name)) for place, values in steps[::every]]),
                label=name.replace("_", " "),
                colour=colour if title == "Loss" else 7,
            )
            for colour, name in enumerate(members)
        ]
        if lines:
            charts.append(Chart(title=title, lines=lines, across=across, marks=_marks(run)))
    if by_epoch:
        charts.append(_over_epochs(run, "Learning rate", ["lr"]))
    return charts


def _marks(run: Run) -> Sequence[tuple[float, str]]:
    if not run.timeline.epochs:
        return [(float(one.step), f"resumed from {one.source}") for one in run.timeline.restarts]
    return [(one.place, f"resumed from {one.source}, step {one.step}") for one in run.timeline.restarts]


def _kind(name: str) -> str:
    return name.removeprefix("train_").removeprefix("val_")
