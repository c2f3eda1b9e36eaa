"""Runs as they lie on disk, for those who look at them: found, read and told apart, without torch."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import attrs

from mlc_core.errors import CheckpointError
from mlc_core.history import read_history, remembered_monitor
from mlc_core.index import Index
from mlc_core.reader import CheckpointReader
from mlc_core.records import Monitor
from mlc_core.storage import LocalStorage
from mlc_trainer.directory import RunDirectory
from mlc_trainer.errors import ConfigError, RunError
from mlc_trainer.observers.journal import read_journal
from mlc_trainer.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mlc_core.records import Mode, Saved
    from mlc_trainer.config import ExperimentConfig
    from mlc_trainer.timeline import EpochRecord

__all__ = ["Run", "State", "direction", "find_runs", "names_of", "read_environment", "read_run"]

State = Literal["running", "finished", "stopped", "killed", "unfinished", "damaged"]
DEEPEST = 4
MARKS = ("run_id", "metrics.jsonl", "checkpoints")
LESS, MORE = ("loss", "error"), ("dice", "iou", "jaccard", "accuracy", "precision", "recall", "f1", "auc", "score")


@attrs.frozen(kw_only=True)
class Run:
    """What the directory of a run says about it."""

    path: Path
    id: str | None
    model_name: str
    state: State
    """Running: a process holds the directory. Finished or stopped: it said so. Killed: it could not. Unfinished: it is
    a loop of somebody's own, which holds nothing. Damaged: this cannot be told."""
    config: ExperimentConfig | None
    """None for a loop of somebody's own, and where it cannot be read."""
    timeline: Timeline
    monitor: Monitor | None
    """The metric by which one epoch is better than another."""
    checkpoints: Sequence[Saved] = ()
    """In order of commit."""
    links: Mapping[str, str] = attrs.field(factory=dict)
    """`best`, `latest` and `final`, and the checkpoints they lead to."""
    problems: Sequence[str] = ()
    """What cannot be read, and why."""

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self.path.resolve().name

    @property
    def planned(self) -> int | None:
        """The epochs that it is to have."""
        return None if self.config is None else self.config.training.num_epochs

    @property
    def done(self) -> int:
        """The epochs that it has."""
        return self.timeline.epochs[-1].number if self.timeline.epochs else 0

    @property
    def last(self) -> EpochRecord | None:
        """The last epoch that ended."""
        return self.timeline.epochs[-1] if self.timeline.epochs else None

    @property
    def best(self) -> EpochRecord | None:
        """The best epoch by the monitored metric; None where nothing is monitored or measured."""
        return None if self.monitor is None else self.best_by(self.monitor)

    def best_by(self, monitor: Monitor) -> EpochRecord | None:
        """Return the best epoch by *monitor*, the earlier of two equals."""
        best, best_value = None, None
        for epoch in self.timeline.epochs:
            value = epoch.metrics.get(monitor.metric)
            if value is not None and (best_value is None or monitor.better(value, best_value)):
                best, best_value = epoch, value
        return best

    @property
    def changed(self) -> float:
        """When something last happened to it, in seconds since 1970: as the journal has it, or else the directory."""
        if self.timeline.told_at is not None:
            return datetime.fromisoformat(self.timeline.told_at).timestamp()
        newest = 0.0
        for name in ("", *MARKS):
            with suppress(OSError):
                newest = max(newest, (self.path / name).stat().st_mtime)
        return newest


def find_runs(root: Path) -> Sequence[Run]:
    """Return the run at *root*, or those below it, by path; damaged ones too, with the reason.

    Raises:
        RunError: If *root* is no directory.
    """
    if not root.is_dir():
        msg = f"{root} is not a directory; name a run, or a directory of runs"
        raise RunError(msg)
    return [_read(path) for path in _paths(root, DEEPEST)]


def read_run(path: Path) -> Run:
    """Return the run at *path*.

    Raises:
        RunError: If there is none; says where there are some.
    """
    if _is_run(path):
        return _read(path)
    msg = f"{path} is not the directory of a run: it has neither {' nor '.join(MARKS)}"
    below = list(_paths(path, 1)) if path.is_dir() else []
    if below:
        msg += f"; there is one at {below[0]}" if len(below) == 1 else f"; `mlc runs ls {path}` lists those below it"
    raise RunError(msg)


def read_environment(run: Run) -> Mapping[str, Any]:
    """Return what the newest checkpoint of *run* that can be read says about the machine it was saved on."""
    for saved in reversed(run.checkpoints):
        with suppress(CheckpointError, OSError, ValueError):
            storage = LocalStorage(run.path / "checkpoints" / run.model_name)
            found = CheckpointReader(storage, saved).raw_tree("environment")
            if isinstance(found, dict):
                return found
    return {}


def names_of(runs: Sequence[Run]) -> Sequence[str]:
    """Return a name for each of *runs*: that of its directory, or the path where two have the same."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def direction(metric: str, runs: Sequence[Run]) -> Mode | None:
    """Return whether less or more of *metric* is better: as the *runs* monitor it, or as its name says, or None."""
    monitors = {run.monitor.metric: run.monitor.mode for run in runs if run.monitor is not None}
    if metric in monitors:
        return monitors[metric]
    if any(word in metric for word in LESS):
        return "min"
    if any(word in metric for word in MORE):
        return "max"
    return next((mode for name, mode in monitors.items() if metric.startswith(f"{name}_")), None)


# ---------------------------------------------------------------------- the inside


def _is_run(path: Path) -> bool:
    try:
        return any((path / mark).exists() for mark in MARKS)
    except OSError:
        return False


def _paths(root: Path, depth: int) -> Iterator[Path]:
    if _is_run(root):
        yield root
        return
    children: list[tuple[str, bool]] = []
    with suppress(OSError), os.scandir(root) as scan:
        children = sorted((one.name, one.is_symlink()) for one in scan if one.name[0] != "." and one.is_dir())
    for name, is_link in children:
        if _is_run(root / name):
            yield root / name
        elif depth > 1 and not is_link:  # a link may lead back to here
            yield from _paths(root / name, depth - 1)


def _read(path: Path) -> Run:
    directory, problems = RunDirectory(path), list[str]()
    config = _read_config(directory, problems)
    timeline = Timeline()
    readable = True
    try:
        timeline = Timeline.read(read_journal(directory.journal))
    except (RunError, OSError) as error:
        readable = False
        problems.append(str(error))
    run_id = None
    with suppress(OSError, ValueError):
        run_id = (path / "run_id").read_text(encoding="ascii").strip()
    model_name = config.model.name if config is not None else _only_model(directory)
    checkpoints, links, remembered = _look(directory.checkpoints / model_name, problems)
    if config is not None:
        kept = config.checkpoints
        remembered = Monitor(metric=kept.monitor_metric, mode=kept.mode)
    is_own = config is None and directory.journal.exists() and not (path / "run_id").exists()
    return Run(
        path=path,
        id=run_id,
        model_name=model_name,
        state=_state(directory, timeline, is_own=is_own) if readable and (config is not None or is_own) else "damaged",
        config=config,
        timeline=timeline,
        monitor=remembered,
        checkpoints=checkpoints,
        links=links,
        problems=problems,
    )


def _read_config(directory: RunDirectory, problems: list[str]) -> ExperimentConfig | None:
    """Return the configuration; a loop of somebody's own has none, and there that is no problem."""
    try:
        return directory.read_config()
    except ConfigError as error:
        problems.append(str(error))
    except RunError as error:
        if (directory.path / "run_id").exists() or not directory.journal.exists():
            problems.append(str(error))
    return None


def _state(directory: RunDirectory, timeline: Timeline, *, is_own: bool) -> State:
    if directory.is_busy():
        return "running"
    if timeline.ended:
        return "finished" if timeline.error is None else "stopped"
    return "unfinished" if is_own else "killed"


def _only_model(directory: RunDirectory) -> str:
    found: list[str] = []
    with suppress(OSError):
        found = sorted(one.name for one in directory.checkpoints.iterdir() if one.is_dir() and one.name[0] != ".")
    return found[0] if found else "model"


def _look(place: Path, problems: list[str]) -> tuple[Sequence[Saved], Mapping[str, str], Monitor | None]:
    """Return the checkpoints at *place*, the links to them, and what was monitored when they were saved."""
    try:
        storage = LocalStorage(place)
        index = Index(storage)
        problems += [f"{name}: {error}" for name, error in index.damaged.items()]
        links = {name: entry for name, entry in index.pointers.items() if name in {"best", "latest", "final"}}
        return index.saved, links, remembered_monitor(read_history(storage))
    except (CheckpointError, OSError, ValueError) as error:  # no path holds every name that a configuration can
        problems.append(f"{place}: {error}")
        return (), {}, None
