"""The checkpoints of one model and how they are found: by name, by pointer, the best, the latest."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from mlc_core.errors import CheckpointNotFoundError, CheckpointWarning, CorruptCheckpointError, StorageError
from mlc_core.index import Index
from mlc_core.reader import CheckpointReader, open_checkpoint
from mlc_core.retention.ranking import rank

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import Any

    from mlc_core.protocols import Storage
    from mlc_core.records import Monitor, Saved

__all__ = ["PIN", "POINTERS", "Shelf"]

POINTERS = ("best", "latest")
ATTEMPTS = 5  # to load from a directory that somebody else saves to and removes from meanwhile
PIN = "pinned-"  # a pin is a pointer: it is there for people, moves with the directory, and goes with its checkpoint


class Shelf:
    """What lies in *storage*, where *monitor* says which is best."""

    def __init__(self, storage: Storage, monitor: Monitor | None) -> None:
        self.storage = storage
        self._monitor = monitor
        self.index = Index(storage, glance=True)
        self._distrusted: set[str] = set()

    @property
    def best(self) -> Saved | None:
        """The best by the monitor, as of the last refresh; what was found to be corrupt is not."""
        best = self.index.best(self._monitor)
        if best is None or self._monitor is None or best.id not in self._distrusted:
            return best
        return next(iter(rank(self.trusted, self._monitor)), None)

    @property
    def trusted(self) -> Sequence[Saved]:
        """The checkpoints in order of commit, without those that were found to be corrupt: these count for nothing."""
        saved = self.index.saved
        return [one for one in saved if one.id not in self._distrusted] if self._distrusted else saved

    @property
    def trusted_latest(self) -> Saved | None:
        """The latest, unless it was found to be corrupt: a new checkpoint may share its files with this one."""
        latest = self.index.latest
        return None if latest is None or latest.id in self._distrusted else latest

    @property
    def pinned(self) -> frozenset[str]:
        """The ids of the checkpoints that are pinned."""
        names = {entry for pointer, entry in self.index.pointers.items() if pointer.startswith(PIN)}
        return frozenset(one.id for one in map(self.index.get, names) if one is not None)

    def find(self, wanted: str) -> Saved:
        """Return the checkpoint here that *wanted* names: its name, its path, or a pointer.

        Raises:
            CheckpointNotFoundError: If there is none.
            CorruptCheckpointError: If its manifest is damaged.
        """
        self.index.refresh()
        name = Path(wanted).name
        place = self.storage.location(name)
        here = wanted in {name, str(place)} or (isinstance(place, Path) and Path(wanted).absolute() == place.absolute())
        name = self.storage.pointers().get(name, name)
        if here and name in self.index.damaged:
            raise self.index.damaged[name]
        saved = self.index.get(name) if here else None
        if saved is not None:
            return saved
        raise self.missing(what=f"is called {wanted!r}")

    def open(self, wanted: str) -> CheckpointReader:
        """Open the checkpoint that *wanted* names, here or, if it is a path or a URL, anywhere."""
        try:
            return CheckpointReader(self.storage, self.index.confirm(self.find(wanted)))
        except CheckpointNotFoundError:
            if "/" not in wanted:
                raise
            return open_checkpoint(wanted)

    def load(
        self, wanted: str, *, only: str | Collection[str] | None, verify: bool
    ) -> tuple[CheckpointReader, dict[str, Any]]:
        """Load the checkpoint that *wanted* names; one that is corrupt shares no file with later ones."""
        reader = self.open(wanted)
        try:
            return reader, reader.load(only=only, verify=verify)
        except (CorruptCheckpointError, StorageError):
            self._distrusted.add(reader.saved.id)
            raise

    def load_first_valid(
        self, pointer: str | None, *, only: str | Collection[str] | None, verify: bool
    ) -> tuple[CheckpointReader, dict[str, Any], tuple[str, ...]]:
        """Return the first of the `candidates` that can be loaded, its state, and why others could not be.

        Raises:
            CheckpointNotFoundError: If there is none.
            CorruptCheckpointError, StorageError: If none can be loaded; which of the two is what the first one raised.
        """
        for _ in range(ATTEMPTS):
            before = self.index.saved
            try:
                return self._load_first_valid(pointer, only=only, verify=verify)
            except (CheckpointNotFoundError, CorruptCheckpointError):
                self.index.refresh()
                if self.index.saved == before:
                    raise  # else a training removed what was being loaded, and has saved another
        return self._load_first_valid(pointer, only=only, verify=verify)

    def _load_first_valid(
        self, pointer: str | None, *, only: str | Collection[str] | None, verify: bool
    ) -> tuple[CheckpointReader, dict[str, Any], tuple[str, ...]]:
        readers = self.candidates(pointer)
        troubles: list[CorruptCheckpointError | StorageError] = []
        for reader in readers:
            try:
                reader = CheckpointReader(self.storage, self.index.confirm(reader.saved))  # noqa: PLW2901
                state = reader.load(only=only, verify=verify)
            except (CorruptCheckpointError, StorageError) as error:
                self._distrusted.add(reader.saved.id)
                troubles.append(error)
                continue
            causes = (*self.index.damaged.values(), *troubles)
            return reader, state, tuple(str(cause) for cause in causes)
        msg = "; ".join(str(cause) for cause in (*self.index.damaged.values(), *troubles))
        raise (StorageError if isinstance(troubles[0], StorageError) else CorruptCheckpointError)(msg) from troubles[0]

    def candidates(self, pointer: str | None) -> Iterator[CheckpointReader]:
        """Yield the best or the latest, as *pointer* says, then all others, newest first.

        Without a pointer it is the best, or the latest where nothing is monitored or measured.

        Raises:
            CheckpointNotFoundError: If there is none.
            CorruptCheckpointError: If all that there are have damaged manifests.
        """
        self.index.refresh()
        if pointer == "best" and self.best is None:
            raise self.missing(what="has a number for a monitored metric")
        chosen = self.index.latest if pointer == "latest" or self.best is None else self.best
        if chosen is None:
            nothing = self.missing(what="can be loaded")
            raise CorruptCheckpointError(str(nothing)) if self.index.damaged else nothing
        others = [one for one in reversed(self.index.saved) if one.id != chosen.id]
        return (CheckpointReader(self.storage, one) for one in (chosen, *others))

    def follow(self) -> None:
        """Let the links for people follow the index; a link that leads nowhere goes.

        A storage that cannot have them warns: the index is the truth, and a checkpoint is no worse without a link.
        """
        try:
            for pointer in POINTERS:  # a copy of the directory that followed the links made a directory of each
                copied = self.index.get(pointer)
                if copied and any(one.id == copied.id and one.name != pointer for one in self.index.saved):
                    self.storage.remove(pointer)
                    self.index.forget([pointer])
            if self._monitor is not None:
                self.index.point("best", self.best.name if self.best else None)
            self.index.point("latest", self.index.latest.name if self.index.latest else None)
            for pointer, entry in self.index.pointers.items():
                if not self.index.holds(entry):
                    self.index.point(pointer, None)
        except StorageError as error:
            msg = f"the links in {self.storage.location('')} could not be renewed: {error}"
            warnings.warn(msg, CheckpointWarning, stacklevel=2)

    def summary(self) -> dict[str, Any]:
        """Return counts, bytes, the best and the latest, as plain data."""
        saved, best, monitor = self.index.saved, self.best, self._monitor
        return {
            "location": str(self.storage.location("")),
            "total_checkpoints": len(saved),
            "total_bytes": sum(one.size for one in saved),
            "damaged": sorted(self.index.damaged),
            "monitor_metric": monitor.metric if monitor else None,
            "best": best.name if best else None,
            "best_metric": best.metrics[monitor.metric] if best and monitor else None,
            "latest": saved[-1].name if saved else None,
        }

    def missing(self, *, what: str) -> CheckpointNotFoundError:
        """Return the error that no checkpoint *what*, and those that there are."""
        names, place = ", ".join(one.name for one in self.index.saved), self.storage.location("")
        none = ": there is none yet" if not self.index.damaged else ": there is none that is whole"
        lines = [f"no checkpoint in {place} {what}" + (f"; there are: {names}" if names else none)]
        lines += [f"  {name} is damaged: {error}" for name, error in self.index.damaged.items()]
        return CheckpointNotFoundError("\n".join(lines))
