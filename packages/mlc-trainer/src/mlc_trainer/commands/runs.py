"""`mlc runs`: look at runs without a tracker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from mlc_core.commands.options import examples
from mlc_core.records import Monitor
from mlc_hooks.console import json_option, print_json, print_table
from mlc_hooks.hints import known_names, nearest
from mlc_trainer.commands.runs_shown import all_facts, as_row, checkpoint_row, facts, headline, metric_rows, progress
from mlc_trainer.errors import ConfigError
from mlc_trainer.runs import direction, find_runs, names_of, read_environment, read_run
from mlc_trainer.settings import different_settings, settings_of
from mlc_trainer.words import duration, setting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.records import Mode
    from mlc_trainer.runs import Run

__all__ = ["runs"]

PICTURES = (".png", ".svg")
run_argument = click.argument("run_dir", type=click.Path(path_type=Path))
several = click.argument("run_dirs", metavar="RUN_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))


@click.group()
def runs() -> None:
    """List runs, show one, compare several, draw them, and write a page about one.

    Everything is read from the run directories alone. Nothing is loaded or changed, and a run that is under way does
    not notice. Needs no torch.
    """


@runs.command(
    "ls",
    short_help="List runs: state, epochs, best metric, time.",
    epilog=examples("mlc runs ls runs", "mlc runs ls runs --sort val_loss"),
)
@click.argument("root", type=click.Path(path_type=Path), required=False)
@click.option("--sort", metavar="METRIC", help="Best first by this metric, instead of the newest first.")
@click.option("--mode", type=click.Choice(["min", "max"]), help="Whether less or more of METRIC is better.")
@json_option
def list_runs(root: Path | None, sort: str | None, mode: str | None, *, as_json: bool) -> None:
    """List the run at ROOT, or those below it (default: runs, if that is there, or else here).

    A run is running while a process trains in its directory. It is finished when it came to its end, stopped when an
    error or a signal ended it (`mlc runs show` tells which), and killed when it ended without a word: `mlc resume`
    goes on from the last checkpoint. A loop of your own that has not said that it ended is unfinished. Damaged is one
    whose configuration or journal cannot be read, for the reason below the table.
    """
    place = root or (Path("runs") if Path("runs").is_dir() else Path())
    if mode is not None and sort is None:
        msg = "--mode says which way to --sort; give both"
        raise click.UsageError(msg)
    found = sorted(find_runs(place), key=lambda run: run.changed, reverse=True)
    monitors = [run.monitor for run in found]
    if sort is not None:
        by = _monitor(sort, mode, found)
        found, monitors = _ranked(found, by), [by] * len(found)
    if as_json:
        print_json([facts(run) for run in found])
        return
    if not found:
        click.echo(f"no runs in {place}; `mlc train CONFIG` makes one")
        return
    rows = [
        as_row(run, _below(run.path, place), None if by is None else (by.metric, run.best_by(by)))
        for run, by in zip(found, monitors, strict=True)
    ]
    columns = ("run", "state", "epochs", "best", "last", "an epoch", "in all", "restarts", "last sign (UTC)")
    print_table(str(place), columns, rows)
    for run in found:
        for problem in run.problems:
            click.echo(f"  {_below(run.path, place)}: {problem}")


@runs.command(
    short_help="Show settings, restarts, metrics and checkpoints of a run.", epilog=examples("mlc runs show runs/brain")
)
@run_argument
@json_option
def show(run_dir: Path, *, as_json: bool) -> None:
    """Show the run in RUN_DIR: what was chosen for it, where it ran, how it went, and what it left."""
    run = read_run(run_dir)
    if as_json:
        print_json(all_facts(run))
        return
    click.echo(f"{headline(run)}\n")
    if run.config is not None:
        chosen = [one for one in settings_of(run.config) if one.chosen]
        rows = [(one.name, setting(one.value), setting(one.default) if one.has_default else "") for one in chosen]
        print_table("What was chosen", ("setting", "value", "default"), rows)
    environment = read_environment(run)
    if environment:
        print_table("Where it ran", ("", "value"), list(environment.items()))
    best, last = run.best, run.last
    if last is not None:
        epochs = [last] if best is None or best is last else [best, last]
        names = [f"{'best' if one is best else 'last'}, epoch {one.number}" for one in epochs]
        print_table("Metrics", ("metric", *names), metric_rows([run] * len(epochs), epochs, marked=False))
    if run.checkpoints:
        value = "" if run.monitor is None else run.monitor.metric
        columns = ("name", "links", "epoch", "step", value, "size", "why")
        print_table("Checkpoints", columns, [checkpoint_row(one, run) for one in run.checkpoints])


@runs.command(
    short_help="Say in which settings runs differ, and which is best.",
    epilog=examples("mlc runs compare runs/brain runs/brain-wide"),
)
@several
@json_option
def compare(run_dirs: tuple[Path, ...], *, as_json: bool) -> None:
    """Hold several runs against each other: the settings in which they differ, and the metrics of their best epochs.

    The best epoch of a run is that of the metric that it monitors; where nothing is monitored, it is the last. The
    best value of each metric is marked, where it is known whether less or more of it is better.
    """
    found = _at_least(2, run_dirs)
    names = names_of(found)
    epochs = [run.best or run.last for run in found]
    configured = [run for run in found if run.config is not None]
    different = different_settings([run.config for run in configured if run.config is not None])
    if as_json:
        told = [facts(run) for run in found]
        settings = [dict(zip([str(run.path) for run in configured], row, strict=True)) for row in different.values()]
        print_json({"runs": told, "settings": dict(zip(different, settings, strict=True))})
        return
    for run, name in zip(found, names, strict=True):
        if run.config is None:
            click.echo(f"{name} has no configuration that can be read: its settings are not compared")
    if different:
        shown = names_of(configured)
        rows = [(name, *(setting(one) for one in row)) for name, row in different.items()]
        print_table("Settings that differ", ("setting", *shown), rows)
    else:
        click.echo("no setting differs\n")
    facts_rows: list[tuple[str, ...]] = [
        ("state", *(run.state for run in found)),
        ("epochs", *(progress(run) for run in found)),
        ("in all", *(duration(run.timeline.seconds) for run in found)),
        ("epoch compared", *("–" if one is None else str(one.number) for one in epochs)),
    ]
    print_table("Metrics (★ is best)", ("", *names), facts_rows + metric_rows(found, epochs, marked=True))


@runs.command(
    short_help="Draw the curves of runs in one picture.",
    epilog=examples("mlc runs plot runs/brain runs/brain-wide --metric val_dice --output dice.svg"),
)
@several
@click.option("--metric", help="What to draw. Default: what the first run monitors.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .png or .svg file. Default: METRIC.png in the first RUN_DIR.",
)
def plot(run_dirs: tuple[Path, ...], metric: str | None, output: Path | None) -> None:
    """Draw a metric of several runs over epochs; dotted lines are where a run was resumed. Needs matplotlib."""
    from mlc_trainer.pictures import draw_runs

    if output is not None and output.suffix.lower() not in PICTURES:
        msg = f"--output {output} must end in {' or '.join(PICTURES)}"
        raise click.UsageError(msg)
    found = _at_least(1, run_dirs)
    name = metric or (found[0].monitor.metric if found[0].monitor is not None else "train_loss")
    _check_measured(name, found)
    path = output or run_dirs[0] / f"{name.replace('/', '_')}.png"
    draw_runs(found, name, path)
    click.echo(f"wrote {path}: {name} of {', '.join(names_of(found))}")


@runs.command(
    short_help="Write a page about a run, complete in one file.",
    epilog=examples("mlc runs report runs/brain", "mlc runs report runs/brain --output brain.html"),
)
@run_argument
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Default: RUN_DIR/report.html.")
def report(run_dir: Path, output: Path | None) -> None:
    """Write one HTML file about the run in RUN_DIR: curves, epochs, checkpoints, settings, where it ran.

    It loads nothing from anywhere and holds no script, so it can be sent, printed and kept. A picture called
    predictions.png in RUN_DIR, as `ModelManager.visualize` draws it, becomes part of it.
    """
    from mlc_trainer.report import write_report

    run = read_run(run_dir)
    path = output or run_dir / "report.html"
    write_report(run, path)
    click.echo(f"wrote {path}")


def _at_least(count: int, paths: Sequence[Path]) -> list[Run]:
    if len(paths) < count:
        msg = f"name {count} runs or more; `mlc runs show {paths[0]}` shows one"
        raise click.UsageError(msg)
    return [read_run(path) for path in paths]


def _monitor(metric: str, mode: str | None, found: Sequence[Run]) -> Monitor:
    """Return what to sort *found* by.

    Raises:
        ConfigError: If none of them measured it, or nothing says which way.
    """
    if found:
        _check_measured(metric, found)
    way = cast("Mode | None", mode) or direction(metric, found)
    if way is None:
        msg = f"whether less or more of {metric} is better is not known; add --mode min or --mode max"
        raise ConfigError(msg)
    return Monitor(metric=metric, mode=way)


def _check_measured(metric: str, found: Sequence[Run]) -> None:
    names = sorted({name for run in found for name in run.timeline.metrics})
    if metric not in names:
        which = "the run" if len(found) == 1 else "any of the runs"
        msg = f"{metric!r} was not measured in {which}.{nearest(metric, names)} {known_names('Measured', names)}"
        raise ConfigError(msg)


def _ranked(found: Sequence[Run], by: Monitor) -> list[Run]:
    """Return *found* with the best first, and those without a value last."""
    values = {id(run): best.metrics[by.metric] for run in found if (best := run.best_by(by)) is not None}
    sign = 1 if by.mode == "min" else -1
    return sorted(found, key=lambda run: (id(run) not in values, sign * (values.get(id(run)) or 0.0)))


def _below(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path != root else str(path)
