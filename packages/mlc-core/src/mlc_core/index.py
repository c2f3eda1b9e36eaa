"""What checkpoints there are: read from the manifests, which are the truth; kept in memory, where it is quick."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import attrs

from mlc_core.errors import CorruptCheckpointError
from mlc_core.manifest import decode_manifest
from mlc_core.naming import MANIFEST
from mlc_core.retention.simple import rank

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_core.protocols import Storage
    from mlc_core.records import Monitor, Saved

__all__ = ["Index"]


class Index:
    """The checkpoints in *storage*, as of the last `refresh`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._tokens: dict[str, str] = {}
        self._saved: dict[str, Saved] = {}
        self._damaged: dict[str, CorruptCheckpointError] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the manifests that came, and forget those that went, since the last time."""
        entries = self._storage.entries()
        for name in [name for name, token in self._tokens.items() if entries.get(name) != token]:
            self._forget(name)
        for name, token in entries.items():
            if name not in self._tokens:
                with suppress(FileNotFoundError):  # another process may remove it at this moment
                    self._read(name)
                    self._tokens[name] = token

    def _read(self, name: str) -> None:
        try:
            data = self._storage.read(name, MANIFEST)
            saved = decode_manifest(data, str(self._storage.location(name)))
        except CorruptCheckpointError as error:
            self._damaged[name] = error
        else:
            self._saved[name] = attrs.evolve(saved, name=name)  # a directory may have been renamed by hand

    def _forget(self, name: str) -> None:
        for table in (self._tokens, self._saved, self._damaged):
            table.pop(name, None)

    @property
    def saved(self) -> tuple[Saved, ...]:
        """The checkpoints with a sound manifest, in order of commit."""
        return tuple(sorted(self._saved.values(), key=lambda one: (one.sequence, one.id)))

    @property
    def damaged(self) -> Mapping[str, CorruptCheckpointError]:
        """The entries whose manifest cannot be believed, and why. They count for nothing and are never removed."""
        return dict(self._damaged)

    @property
    def names(self) -> frozenset[str]:
        """Every name that is taken."""
        return frozenset(self._tokens)

    @property
    def latest(self) -> Saved | None:
        """The checkpoint committed last."""
        return max(self._saved.values(), key=lambda one: (one.sequence, one.id), default=None)

    def best(self, monitor: Monitor | None) -> Saved | None:
        """Return the best by *monitor*, the earlier of two equals; None where nothing is monitored or measured."""
        if monitor is None:
            return None
        return next(iter(rank(self.saved, monitor)), None)

    def of_epoch(self, epoch: int) -> Saved | None:
        """Return the checkpoint of *epoch*: its end if that was saved, and of several the one committed last."""
        found = [one for one in self.saved if one.epoch == epoch]
        return max(found, key=lambda one: (one.epoch_ended, one.sequence), default=None)
