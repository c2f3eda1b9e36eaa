"""What rank 0 alone does: ask the strategy, give the checkpoint its name, commit it, and remove what goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from mlc_core.decider import Decider
from mlc_core.errors import CorruptCheckpointError
from mlc_core.keeper import Keeper
from mlc_core.manifest import encode_manifest
from mlc_core.reader import CheckpointReader
from mlc_core.saver import Saver
from mlc_core.shelf import POINTERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core.protocols import RetentionPolicy, SaveStrategy, Staging
    from mlc_core.records import FileRecord, Monitor, Saved
    from mlc_core.saver import Facts
    from mlc_core.shelf import Shelf

__all__ = ["Desk"]


@attrs.frozen
class _Written:
    """What all ranks have written, and nobody can see yet."""

    staging: Staging
    items: tuple[str, ...]
    files: tuple[FileRecord, ...]

    def commit(self, saved: Saved) -> None:
        self.staging.commit(saved.name, encode_manifest(saved))


class Desk:
    """Decides about what lies on *shelf*. One save at a time: `decide`, `commit`, `end`."""

    def __init__(
        self,
        shelf: Shelf,
        model: str,
        strategy: SaveStrategy,
        retention: RetentionPolicy,
        *,
        monitor: Monitor | None,
        run: str | None,
    ) -> None:
        self._shelf = shelf
        self.keeper = Keeper(shelf, retention, monitor=monitor)
        self._saver = Saver(shelf, self.keeper, model=model, run=run)
        self._decider = Decider(strategy, model=model, monitor=monitor, shelf=shelf)
        self._began = 0.0
        self._facts: Facts | None = None
        self._saved: Saved | None = None

    def open(self) -> None:
        """Clear away what dead writers left, and let the strategy go on from what it remembered."""
        self._shelf.storage.sweep()
        self._decider.resume()

    def due(
        self, *, epoch: int | None, step: int | None, epoch_ended: bool, metrics: Mapping[str, float] | None
    ) -> str | None:
        """Return the strategy's answer.

        Raises:
            ConfigurationError: If an epoch, a step or a metric is none.
        """
        return self._decider.due(epoch=epoch, step=step, epoch_ended=epoch_ended, metrics=metrics)

    def decide(
        self,
        reason: str | None,
        *,
        epoch: int | None,
        step: int | None,
        epoch_ended: bool,
        metrics: Mapping[str, float] | None,
    ) -> bool:
        """Say whether this moment is to be saved: because of *reason*, or because the strategy gives one.

        Raises:
            ConfigurationError: If an epoch, a step or a metric is none.
        """
        self._began = time.perf_counter()
        self._facts = self._decider.decide(reason, epoch=epoch, step=step, epoch_ended=epoch_ended, metrics=metrics)
        return self._facts is not None

    def commit(self, staging: Staging, items: Sequence[str], files: Sequence[FileRecord]) -> None:
        """Give what lies in *staging* a name, and make it visible.

        Raises:
            StorageError: If that failed.
        """
        assert self._facts is not None
        self._saved = self._saver.commit(_Written(staging, tuple(items), tuple(files)), self._facts)

    def end(self) -> str:
        """Tell of what is durable now, remove what goes, and return its name."""
        assert self._saved is not None
        self._saver.conclude(self._saved)
        self._decider.save_seconds = time.perf_counter() - self._began
        return self._saved.name

    def candidates(self, wanted: str | None) -> tuple[list[CheckpointReader], tuple[str, ...]]:
        """Return what may be loaded for *wanted*, best first, and why others may not.

        Raises:
            CheckpointNotFoundError: If there is none.
            CorruptCheckpointError: If all that there are have damaged manifests.
        """
        if wanted is not None and wanted not in POINTERS:
            return [self._shelf.open(wanted)], ()
        readers, causes = [], [str(cause) for cause in self._shelf.index.damaged.values()]
        for reader in self._shelf.candidates(wanted):
            try:
                readers.append(CheckpointReader(reader.storage, self._shelf.index.confirm(reader.saved)))
            except CorruptCheckpointError as error:
                causes.append(str(error))
        if not readers:
            raise CorruptCheckpointError("; ".join(causes))
        return readers, tuple(causes)
