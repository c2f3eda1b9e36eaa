"""`metrics.jsonl`: one line for each thing that happened, appended, so that any tool can follow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_trainer.engine import Position
    from mlc_trainer.observers.protocol import RunRecord

__all__ = ["Journal", "read_journal"]


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the lines of the journal at *path*; a last line that a crash tore is left out, no file is no lines."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


class Journal:
    """Writes what happens; after a restart it goes on where the checkpoint was taken, and tells no step twice."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def run_started(self, run: RunRecord, position: Position) -> None:
        """Forget what happened after *position*, which will happen again, and note the restart."""
        kept = [line for line in read_journal(self._path) if _is_before(line, position)]
        if run.resumed_from is not None:
            kept.append(
                {"event": "resumed", **_place(position), "from": run.resumed_from, "differences": list(run.differences)}
            )
        new = self._path.with_suffix(".new")
        new.write_text("".join(map(_line, kept)), encoding="utf-8")
        new.replace(self._path)
        self._file = self._path.open("a", encoding="utf-8")

    def step_ended(self, position: Position) -> None:
        """Write nothing."""

    def step_logged(self, position: Position, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        self._write({"event": "step", **_place(position), **values})

    def epoch_ended(self, position: Position, metrics: Mapping[str, float]) -> None:
        """Write the metrics of an epoch."""
        self._write({"event": "epoch", **_place(position), **metrics})

    def checkpoint_saved(self, position: Position, location: str) -> None:
        """Write where a checkpoint lies."""
        self._write({"event": "checkpoint", **_place(position), "location": Path(location).name})

    def run_ended(self, position: Position, error: BaseException | None) -> None:
        """Write how it ended."""
        cause = None if error is None else f"{type(error).__name__}: {error}"
        self._write({"event": "ended", **_place(position), "error": cause})
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(_line(line))
        self._file.flush()


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content) + "\n"


def _place(position: Position) -> dict[str, int]:
    """An epoch is counted from 1 for people: in its middle it is the one under way, at its end the one that ended."""
    return {"epoch": position.epoch + (1 if position.batch else 0), "step": position.step}


def _is_before(line: Mapping[str, Any], position: Position) -> bool:
    if line["event"] == "ended":
        return False  # it goes on after all
    if line["event"] == "epoch":
        return bool(line["epoch"] <= position.epoch)
    return bool(line["step"] <= position.step)
