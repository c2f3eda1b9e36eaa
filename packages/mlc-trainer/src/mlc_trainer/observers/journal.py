"""`metrics.jsonl`: one line for each thing that happened, appended, so that any tool can follow it."""

from __future__ import annotations

import errno
import json
import math
import os
import weakref
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_core.storage.files import failures
from mlc_trainer.errors import RunError
from mlc_trainer.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from io import FileIO

    from mlc_trainer.engine import Position
    from mlc_trainer.observers.protocol import RunRecord
    from mlc_trainer.resume_report import ResumeReport

__all__ = ["Journal", "metrics_of", "read_journal"]

NO_METRICS = {"event", "epoch", "step", "at"}


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the lines of the journal at *path*; a last line that a crash tore is left out, no file is no lines.

    Raises:
        RunError: If another line cannot be read; names it.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    found = []
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            continue
        try:
            content = json.loads(line)
        except ValueError:
            content = None
        if not isinstance(content, dict) or not {"event", "epoch", "step"} <= content.keys():
            msg = f"{path}: line {number} is no line of a journal; remove it, or the file: training needs neither"
            raise RunError(msg)
        found.append(content)
    return found


def metrics_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was measured, of the *line* of an epoch or a step: neither where that was nor when."""
    return {name: one for name, one in line.items() if name not in NO_METRICS}


class Journal:
    """Writes what happens and when; after a restart it goes on where the checkpoint was taken.

    No step is told twice. `at` is the time in UTC, for people: no two runs have the same.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None

    def run_started(self, run: RunRecord, position: Position) -> None:
        """Forget what happened after *position*, which will happen again, and note the start or the restart."""
        kept = [line for line in read_journal(self._path) if _is_before(line, position)]
        begun: dict[str, Any] = {"at": _now(), **_place(position)}
        if run.resumed_from is None:
            kept.append({"event": "started", **begun})
        else:
            changed = list(run.differences)
            facts = {"batch": position.batch, "from": run.resumed_from, "differences": changed, **_facts(run.resume)}
            kept.append({"event": "resumed", **begun, **facts})
        self._replace(kept)

    def step_ended(self, position: Position) -> None:
        """Write nothing."""

    def step_logged(self, position: Position, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        self._write({"event": "step", **_place(position), **values})

    def epoch_ended(self, position: Position, metrics: Mapping[str, float]) -> None:
        """Write the metrics of an epoch, durably: the checkpoint that says it is complete comes next."""
        self._write({"event": "epoch", **_place(position), **metrics}, durably=True)

    def rolled_back(self, position: Position) -> None:
        """Forget what happened after *position*, and note that it will happen again."""
        kept = [line for line in read_journal(self._path) if _is_before(line, position)]
        kept.append({"event": "rolled back", "at": _now(), **_place(position)})
        self._replace(kept)

    def checkpoint_saved(self, position: Position, location: str) -> None:
        """Write where a checkpoint lies."""
        self._write({"event": "checkpoint", **_place(position), "location": Path(location).name})

    def run_ended(self, position: Position, error: BaseException | None) -> None:
        """Write how it ended."""
        cause = None if error is None else f"{type(error).__name__}: {error}"
        self._write({"event": "ended", **_place(position), "error": cause})
        self._close()

    def _replace(self, lines: Iterable[Mapping[str, Any]]) -> None:
        self._close()
        replace_file(self._path, "".join(map(_line, lines)))

    def _write(self, line: Mapping[str, Any], *, durably: bool = False) -> None:
        data = _line({"event": line["event"], "at": _now(), **line}).encode()
        with failures(self._path):
            file = self._open()
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durably:
                os.fsync(file.fileno())

    def _open(self) -> FileIO:
        """Return the file, which stays open: to open it takes longer than to write a line."""
        if self._file is None or self._file.closed:
            self._file = self._path.open("ab", buffering=0)
            weakref.finalize(self, self._file.close)  # a loop of somebody else's may never say that it ended
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()


def _line(content: Mapping[str, Any]) -> str:
    """JSON has no NaN and no infinity; a number that is neither here nor there is null."""
    numbers = {name: one if not isinstance(one, float) or math.isfinite(one) else None for name, one in content.items()}
    return json.dumps(numbers) + "\n"


def _facts(report: ResumeReport | None) -> dict[str, Any]:
    """Return what *report* tells beside the name of the checkpoint and the differences in words."""
    if report is None:
        return {}
    told = report.as_data()
    names = ("restored", "not_restored", "passed_over", "to_the_bit", "verdict")
    return {**{name: told[name] for name in names}, "changes": told["differences"]}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _place(position: Position) -> dict[str, int]:
    """An epoch is counted from 1 for people: in its middle it is the one under way, at its end the one that ended."""
    return {"epoch": position.epoch + (1 if position.batch else 0), "step": position.step}


def _is_before(line: Mapping[str, Any], position: Position) -> bool:
    if line["event"] == "ended":
        return False  # it goes on after all
    if line["event"] == "started":
        return position.step > 0  # or it starts once more
    if line["event"] == "epoch":
        return bool(line["epoch"] <= position.epoch)
    return bool(line["step"] <= position.step)
