"""The checkpoints of one model and how they are found: by name, by pointer, the best, the latest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlc_core.errors import CheckpointNotFoundError
from mlc_core.index import Index
from mlc_core.reader import CheckpointReader, open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlc_core.protocols import Storage
    from mlc_core.records import Monitor, Saved

__all__ = ["POINTERS", "Shelf"]

POINTERS = ("best", "latest")


class Shelf:
    """What lies in *storage*, where *monitor* says which is best."""

    def __init__(self, storage: Storage, monitor: Monitor | None) -> None:
        self.storage = storage
        self._monitor = monitor
        self.index = Index(storage)

    @property
    def best(self) -> Saved | None:
        """The best by the monitor, as of the last refresh."""
        return self.index.best(self._monitor)

    def find(self, wanted: str) -> Saved:
        """Return the checkpoint here that *wanted* names: its name, its path, or a pointer.

        Raises:
            CheckpointNotFoundError: If there is none.
            CorruptCheckpointError: If its manifest is damaged.
        """
        self.index.refresh()
        name = Path(wanted).name
        here = wanted in {name, str(self.storage.location(name))}
        name = self.storage.pointers().get(name, name)
        if here and name in self.index.damaged:
            raise self.index.damaged[name]
        for saved in self.index.saved:
            if here and saved.name == name:
                return saved
        raise self.missing(what=f"is called {wanted!r}")

    def open(self, wanted: str) -> CheckpointReader:
        """Open the checkpoint that *wanted* names, here or, if it is a path or a URL, anywhere."""
        try:
            return CheckpointReader(self.storage, self.find(wanted))
        except CheckpointNotFoundError:
            if "/" not in wanted:
                raise
            return open_checkpoint(wanted)

    def candidates(self, pointer: str | None) -> Iterator[CheckpointReader]:
        """Yield the best or the latest, as *pointer* says, then all others, newest first.

        Without a pointer it is the best, or the latest where nothing is monitored or measured.

        Raises:
            CheckpointNotFoundError: If there is none.
        """
        self.index.refresh()
        if pointer == "best" and self.best is None:
            raise self.missing(what="has a number for a monitored metric")
        chosen = self.index.latest if pointer == "latest" or self.best is None else self.best
        if chosen is None:
            raise self.missing(what="is there yet")
        others = [one for one in reversed(self.index.saved) if one.id != chosen.id]
        return (CheckpointReader(self.storage, one) for one in (chosen, *others))

    def follow(self) -> None:
        """Let the links for people follow the index; a link that leads nowhere goes."""
        if self._monitor is not None:
            self.storage.point("best", self.best.name if self.best else None)
        self.storage.point("latest", self.index.latest.name if self.index.latest else None)
        for pointer, entry in self.storage.pointers().items():
            if entry not in self.index.names:
                self.storage.point(pointer, None)

    def missing(self, *, what: str) -> CheckpointNotFoundError:
        """Return the error that no checkpoint *what*, and those that there are."""
        names = ", ".join(one.name for one in self.index.saved) or "none"
        lines = [f"no checkpoint in {self.storage.location('')} {what}; there are: {names}"]
        lines += [f"  {name} is damaged: {error}" for name, error in self.index.damaged.items()]
        return CheckpointNotFoundError("\n".join(lines))
