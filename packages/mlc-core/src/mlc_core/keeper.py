"""What is kept, why, and what goes: the policy applied to the shelf, pins, and the history that answers later."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import orjson

from mlc_core import events
from mlc_core.errors import CheckpointWarning, ConfigurationError, StorageError
from mlc_core.naming import check_name
from mlc_core.retention import decide
from mlc_core.shelf import PIN, POINTERS
from mlc_core.writer import now

if TYPE_CHECKING:
    from pathlib import Path

    from mlc_core.protocols import RetentionPolicy
    from mlc_core.records import Decision
    from mlc_core.shelf import Shelf

__all__ = ["Keeper"]


class Keeper:
    """Keeps of what is on *shelf* what *policy* says, and what is pinned."""

    def __init__(self, shelf: Shelf, policy: RetentionPolicy) -> None:
        self._shelf = shelf
        self._policy = policy
        self._noted: dict[str, str] = {}

    def plan(self) -> tuple[Decision, ...]:
        """Return what `prune` would keep and remove now, and why. Changes nothing."""
        self._shelf.index.refresh()
        return self._decide()

    def _decide(self) -> tuple[Decision, ...]:
        return decide(self._policy, self._shelf.index.saved, pinned=self._shelf.pinned)

    def prune(self) -> tuple[Decision, ...]:
        """Remove what the policy does not keep, and return every decision.

        Raises:
            StorageError: If one could not be removed. The others were.
        """
        storage = self._shelf.storage
        removed: list[Decision] = []
        troubles: list[StorageError] = []
        with storage.lock():
            decisions = self.plan()
            for one in decisions:
                if one.keep:
                    continue
                try:
                    storage.remove(one.saved.name)
                    removed.append(one)
                except StorageError as error:
                    troubles.append(error)
            if removed:
                self._shelf.index.refresh()
                self._shelf.follow()
        self._note_news(decisions)
        for one in removed:
            events.checkpoint_removed(one.saved, storage, one.reason)
        if troubles:
            raise StorageError("; ".join(map(str, troubles))) from troubles[0]
        return decisions

    def pin(self, checkpoint: Path | str) -> None:
        """Let *checkpoint* stay whatever the policy says, until it is unpinned.

        Raises:
            CheckpointNotFoundError: If there is no such checkpoint here.
        """
        with self._shelf.storage.lock():
            name = self._shelf.find(str(checkpoint)).name
            self._shelf.storage.point(f"{PIN}{name}", name)
        self._note("pinned", name=name)

    def unpin(self, checkpoint: Path | str) -> None:
        """Leave *checkpoint* to the policy again.

        Raises:
            CheckpointNotFoundError: If there is no such checkpoint here.
        """
        with self._shelf.storage.lock():
            name = self._shelf.find(str(checkpoint)).name
            self._shelf.storage.point(f"{PIN}{name}", None)
        self._note("unpinned", name=name)

    def set_pointer(self, pointer: str, checkpoint: Path | str) -> None:
        """Let *pointer*, as `final`, lead to *checkpoint*, until that one is removed.

        Raises:
            ConfigurationError: If *pointer* is `best` or `latest`, which follow the index, or means a pin.
            CheckpointNotFoundError: If there is no such checkpoint here.
        """
        if pointer in POINTERS or pointer.startswith(PIN):
            msg = f"{pointer!r} is set by the manager itself; choose another name"
            raise ConfigurationError(msg)
        with self._shelf.storage.lock():
            self._shelf.storage.point(check_name(pointer), self._shelf.find(str(checkpoint)).name)

    def _note_news(self, decisions: tuple[Decision, ...]) -> None:
        """Write down the decisions that are not what they were, so that `why` can answer when a checkpoint is gone."""
        for one in decisions:
            answer = f"{one.keep}{one.reason}"
            if self._noted.get(one.saved.id) != answer:
                self._noted[one.saved.id] = answer
                self._note("kept" if one.keep else "removed", name=one.saved.name, id=one.saved.id, reason=one.reason)
        kept = {one.saved.id for one in decisions if one.keep}
        self._noted = {key: answer for key, answer in self._noted.items() if key in kept}

    def _note(self, event: str, **facts: Any) -> None:
        try:
            self._shelf.storage.note(orjson.dumps({"event": event, "at": now(), **facts}))
        except StorageError as error:
            msg = f"the history in {self._shelf.storage.location('')} was not continued: {error}"
            warnings.warn(msg, CheckpointWarning, stacklevel=3)
