"""The directory of a run: what lies where, and who may write to it."""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.storage.files import failures
from mlc_trainer.config_files import as_data, read_config
from mlc_trainer.errors import RunBusyError, RunError
from mlc_trainer.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlc_trainer.config import ExperimentConfig

__all__ = ["RunDirectory"]

HELD: set[int] = set()
"""The locks of this process, as descriptors of the directories."""
GLANCES, GLANCE = 5, 0.02
"""How often to try again, and after how many seconds: who only asks whether a run is busy holds it for a moment."""


@attrs.frozen
class RunDirectory:
    """A run at *path*: `config.json`, `environment.json`, `run_id`, `metrics.jsonl` and `checkpoints/<model>/`."""

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

    @property
    def branch_file(self) -> Path:
        """Where the run went on from an older checkpoint, if it did."""
        return self.path / "branch.json"

    def read_id(self) -> str:
        """Return the id of the run, the same after any restart; a new one where nothing was written yet."""
        file = self.path / "run_id"
        return file.read_text(encoding="ascii").strip() if file.is_file() else uuid.uuid4().hex

    def write(self, config: ExperimentConfig, run_id: str) -> None:
        """Keep *config*, every default spelled out, and *run_id*.

        Raises:
            DiskFullError, StorageError: If they cannot be written.
        """
        replace_file(self.path / "run_id", f"{run_id}\n")
        replace_file(self.config_file, json.dumps(as_data(config), indent=2) + "\n")

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Keep what the run was last started with beside its configuration.

        Raises:
            DiskFullError, StorageError: If it cannot be written.
        """
        replace_file(self.path / "environment.json", json.dumps(facts, indent=2) + "\n")

    def read_config(self) -> ExperimentConfig:
        """Return the configuration of the run.

        Raises:
            RunError: If there is no run.
            ConfigError: If the configuration cannot be followed.
        """
        if not self.config_file.is_file():
            msg = f"{self.path} is not the directory of a run: it has no {self.config_file.name}"
            if self.checkpoints.is_dir():
                msg += "; each of its checkpoints holds one: ModelManager.from_checkpoint(PATH).config"
            raise RunError(msg)
        return read_config(self.config_file)

    def is_busy(self) -> bool:
        """Say whether a process trains here now; whoever asks is in nobody's way."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False  # this file system has no locks, so nobody could train
        finally:
            os.close(descriptor)
        return False

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep other processes from training here; the kernel frees the run if this one dies.

        Raises:
            RunBusyError: If one does already.
            StorageError: If the directory cannot be made or locked.
        """
        with failures(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        HELD.add(descriptor)
        try:
            with failures(self.path):
                if not _lock(descriptor):
                    msg = f"another process is training in {self.path}; wait for it, or choose another run directory"
                    raise RunBusyError(msg)
            yield
        finally:
            if descriptor in HELD:  # not so in a forked child
                HELD.remove(descriptor)
                os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock what *descriptor* is open on, and return whether nobody else holds it."""
    for _ in range(GLANCES):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(GLANCE)
    return False


def _let_go() -> None:
    """Close what a forked child got of our locks, or a loader's worker would keep the run busy after our death."""
    while HELD:
        os.close(HELD.pop())


os.register_at_fork(after_in_child=_let_go)
