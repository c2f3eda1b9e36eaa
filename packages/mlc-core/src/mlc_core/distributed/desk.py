"""What rank 0 alone does: ask the strategy, give the checkpoint its name, commit it."""

from __future__ import annotations

import time
import warnings
from itertools import islice
from typing import TYPE_CHECKING, SupportsIndex

import attrs

from mlc_core.clock import RunningTime
from mlc_core.errors import CheckpointWarning, EntryExistsError
from mlc_core.manifest import encode_manifest
from mlc_core.naming import entry_names
from mlc_core.options import read_count, read_numbers
from mlc_core.records import Moment, Saved
from mlc_core.shelf import POINTERS
from mlc_core.strategies.memory import recall, remember
from mlc_core.writer import new_id, now, versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core.protocols import SaveStrategy, Staging
    from mlc_core.reader import CheckpointReader
    from mlc_core.records import FileRecord, Monitor
    from mlc_core.shelf import Shelf

__all__ = ["Desk", "Occasion"]

NAMES_TO_TRY = 10  # when names are taken by what is no checkpoint, such as one whose manifest was deleted


def _read_epoch(value: SupportsIndex | None) -> int | None:
    return read_count("epoch", value)


def _read_step(value: SupportsIndex | None) -> int | None:
    return read_count("step", value)


@attrs.frozen(kw_only=True)
class Occasion:
    """The moment that may be saved, as rank 0 sees it.

    Raises:
        ConfigurationError: If an epoch, a step or a metric is none.
    """

    epoch: int | None = attrs.field(converter=_read_epoch)
    step: int | None = attrs.field(converter=_read_step)
    epoch_ended: bool
    metrics: Mapping[str, float] = attrs.field(converter=read_numbers)


@attrs.frozen
class _Save:
    """A save under way."""

    occasion: Occasion
    why: str
    began: float


class Desk:
    """Decides about what lies on *shelf*. One save at a time: `decide`, `commit`, `end`."""

    def __init__(
        self, shelf: Shelf, model: str, strategy: SaveStrategy, *, monitor: Monitor | None, run: str | None
    ) -> None:
        self._shelf = shelf
        self._model = model
        self._strategy = strategy
        self._monitor = monitor
        self._run = run
        self._clock = RunningTime()
        self._save_seconds: float | None = None
        self._save: _Save | None = None
        self.saved: Saved | None = None
        """The record of the last save."""

    def open(self) -> None:
        """Clear away what dead writers left, and let the strategy go on from what it remembered."""
        self._shelf.storage.sweep()
        latest = self._shelf.index.latest
        if latest is None:
            return
        self._clock = RunningTime(latest.elapsed)
        try:
            recall(self._strategy, latest.strategy)
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            msg = f"the save strategy begins anew, because it did not take its state from {latest.name} ({cause})"
            warnings.warn(msg, CheckpointWarning, stacklevel=4)

    def decide(self, occasion: Occasion, reason: str | None = None) -> bool:
        """Say whether *occasion* is to be saved: because of *reason*, or because the strategy gives one."""
        moment = Moment(
            model=self._model,
            monitor=self._monitor,
            best=self._shelf.best,
            latest=self._shelf.index.latest,
            elapsed=self._clock.elapsed,
            save_seconds=self._save_seconds,
            **attrs.asdict(occasion),
        )
        why = reason or self._strategy.should_save(moment)
        self._save = None if why is None else _Save(occasion, why, time.perf_counter())
        return why is not None

    def commit(self, staging: Staging, items: Sequence[str], files: Sequence[FileRecord]) -> None:
        """Give what lies in *staging* a name, and make it visible.

        Raises:
            StorageError: If that failed.
        """
        assert self._save is not None
        taken_meanwhile: list[EntryExistsError] = []
        storage, index, occasion = self._shelf.storage, self._shelf.index, self._save.occasion
        with storage.lock():
            index.refresh()
            taken = {*index.names, *storage.pointers()}
            names = entry_names(occasion.epoch, occasion.step, epoch_ended=occasion.epoch_ended, taken=taken)
            for name in islice(names, NAMES_TO_TRY):
                saved = self._record(name, items, files, self._save)
                try:
                    staging.commit(name, encode_manifest(saved))
                except EntryExistsError as error:
                    taken_meanwhile.append(error)
                    continue
                self.saved = saved
                index.refresh()
                self._shelf.follow()
                return
        raise taken_meanwhile[-1]

    def _record(self, name: str, items: Sequence[str], files: Sequence[FileRecord], save: _Save) -> Saved:
        return Saved(
            model=self._model,
            name=name,
            id=new_id(),
            sequence=self._shelf.index.next_sequence,
            run=self._run,
            reasons=tuple(save.why.split("; ")),
            created_at=now(),
            elapsed=self._clock.elapsed,
            items=tuple(items),
            files=tuple(files),
            versions=versions(),
            strategy=remember(self._strategy),
            **attrs.asdict(save.occasion),
        )

    def end(self) -> None:
        """Note how long the save took."""
        assert self._save is not None
        self._save_seconds = time.perf_counter() - self._save.began

    def candidates(self, wanted: str | None) -> tuple[list[CheckpointReader], tuple[str, ...]]:
        """Return what may be loaded for *wanted*, best first, and why others may not.

        Raises:
            CheckpointNotFoundError: If there is none.
            CorruptCheckpointError: If all that there are have damaged manifests.
        """
        if wanted is not None and wanted not in POINTERS:
            return [self._shelf.open(wanted)], ()
        found = list(self._shelf.candidates(wanted))
        return found, tuple(str(cause) for cause in self._shelf.index.damaged.values())
