"""The directory of a run: what lies where, and who may write to it."""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from mlc_trainer.config_files import as_data, read_config
from mlc_trainer.errors import RunBusyError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlc_trainer.config import ExperimentConfig

__all__ = ["RunDirectory"]


@attrs.frozen
class RunDirectory:
    """A run at *path*: `config.json`, `metrics.jsonl`, `checkpoints/<model>/`, and pictures."""

    path: Path

    @property
    def journal(self) -> Path:
        """One line for each thing that happened."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints, a directory for each model."""
        return self.path / "checkpoints"

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.json"

    def run_id(self) -> str:
        """Return the id of the run, the same after any restart."""
        file = self.path / "run_id"
        if not file.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            file.write_text(uuid.uuid4().hex + "\n", encoding="ascii")
        return file.read_text(encoding="ascii").strip()

    def write_config(self, config: ExperimentConfig) -> None:
        """Keep *config*, every default spelled out."""
        self.path.mkdir(parents=True, exist_ok=True)
        new = self.config_file.with_suffix(".new")
        new.write_text(json.dumps(as_data(config), indent=2) + "\n", encoding="utf-8")
        new.replace(self.config_file)

    def read_config(self) -> ExperimentConfig:
        """Return the configuration of the run.

        Raises:
            RunError: If there is no run.
        """
        if not self.config_file.is_file():
            msg = f"{self.path} is not the directory of a run: it has no {self.config_file.name}"
            raise RunError(msg)
        return read_config(self.config_file)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep other processes from training here; the kernel frees the run if this one dies.

        Raises:
            RunBusyError: If one does already.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                msg = f"another process is training in {self.path}; wait for it, or choose another run directory"
                raise RunBusyError(msg) from error
            yield
        finally:
            os.close(descriptor)
