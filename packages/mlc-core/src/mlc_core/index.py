"""What checkpoints there are: read from the manifests, which are the truth; kept in memory, where it is quick."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs

from mlc_core.errors import CorruptCheckpointError, StorageError
from mlc_core.manifest import decode_manifest
from mlc_core.naming import MANIFEST
from mlc_core.records import Saved
from mlc_core.retention.simple import rank

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_core.protocols import Storage
    from mlc_core.records import Monitor

__all__ = ["Index"]


class Index:
    """The checkpoints in *storage*, as of the last `refresh`. Any thread may look while another one refreshes."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._turn = threading.Lock()
        self._known: Mapping[str, tuple[str, Saved | CorruptCheckpointError]] = {}
        self._highest = 0
        self._saved: tuple[Saved, ...] = ()
        self._best: dict[Monitor, Saved | None] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the manifests that came, and forget those that went, since the last time."""
        with self._turn:
            known = {}
            for name, token in self._storage.entries().items():
                before = self._known.get(name)
                if before is not None and before[0] == token:
                    known[name] = before
                    continue
                with suppress(FileNotFoundError):  # another process may remove it at this moment
                    known[name] = self._read(name, token)
            damaged = [name for name, (_, found) in known.items() if not isinstance(found, Saved)]
            came = [name for name in damaged if name not in self._known]
            sequences = [found.sequence for _, found in known.values() if isinstance(found, Saved)]
            self._highest = max(self._highest, *sequences, 0) + len(came)
            if known != self._known:
                sound = [found for _, found in known.values() if isinstance(found, Saved)]
                self._saved = tuple(sorted(sound, key=lambda one: (one.sequence, one.id)))
                self._best = {}
            self._known = known

    def _read(self, name: str, token: str) -> tuple[str, Saved | CorruptCheckpointError]:
        where = self._storage.location(name)
        try:
            saved = decode_manifest(self._storage.read(name, MANIFEST), str(where))
        except CorruptCheckpointError as error:
            return token, error
        except StorageError as error:
            unreadable = CorruptCheckpointError(f"{where}/{MANIFEST} cannot be read: {error}")
            return "", unreadable  # a token that nothing has: it is tried again next time
        return token, attrs.evolve(saved, name=name)  # a directory may have been renamed by hand

    @property
    def saved(self) -> tuple[Saved, ...]:
        """The checkpoints with a sound manifest, in order of commit."""
        return self._saved

    @property
    def damaged(self) -> Mapping[str, CorruptCheckpointError]:
        """The entries whose manifest cannot be believed, and why. They count for nothing and are never removed."""
        return {name: found for name, (_, found) in self._known.items() if isinstance(found, CorruptCheckpointError)}

    @property
    def names(self) -> frozenset[str]:
        """Every name that is taken."""
        return frozenset(self._known)

    @property
    def next_sequence(self) -> int:
        """A number above all that were seen here, damaged ones counted as if each had been the last."""
        return self._highest + 1

    @property
    def latest(self) -> Saved | None:
        """The checkpoint committed last."""
        return self._saved[-1] if self._saved else None

    def best(self, monitor: Monitor | None) -> Saved | None:
        """Return the best by *monitor*, the earlier of two equals; None where nothing is monitored or measured."""
        if monitor is None:
            return None
        best = self._best
        if monitor not in best:
            best[monitor] = next(iter(rank(self.saved, monitor)), None)
        return best[monitor]

    def of_epoch(self, epoch: int) -> Saved | None:
        """Return the checkpoint of *epoch*: its end if that was saved, and of several the one committed last."""
        found = [one for one in self.saved if one.epoch == epoch]
        return max(found, key=lambda one: (one.epoch_ended, one.sequence), default=None)
