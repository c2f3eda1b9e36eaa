"""What is kept, why, and what goes: the policy applied to the shelf, pins, and the history that answers later."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import attrs

from mlc_core import events
from mlc_core.collector import no_collection
from mlc_core.errors import CheckpointWarning, ConfigurationError, StorageError
from mlc_core.history import read_history, remembered_monitor, write_note
from mlc_core.naming import check_name, is_given_name
from mlc_core.records import Decision
from mlc_core.retention import decide
from mlc_core.shelf import PIN, POINTERS

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from mlc_core.protocols import RetentionPolicy
    from mlc_core.records import Monitor, Saved
    from mlc_core.shelf import Shelf

__all__ = ["Keeper"]

DECISIONS = ("kept", "removed")
RECENT = 10_000  # notes; what was decided before them is written down again


class Keeper:
    """Keeps of what is on *shelf* what *policy* says, and what is pinned.

    Args:
        shelf: The checkpoints.
        policy: What to keep of them.
        monitor: What says which is best; written down, so that commands know it when no training runs.
    """

    def __init__(self, shelf: Shelf, policy: RetentionPolicy, *, monitor: Monitor | None = None) -> None:
        self._shelf = shelf
        self.policy = policy
        self._monitor = monitor
        self._noted: dict[str, str] | None = None
        """The last word on each checkpoint that is there; None until the history was read."""

    def plan(self) -> tuple[Decision, ...]:
        """Return what `prune` would keep and remove now, and why. Changes nothing."""
        if not self._shelf.index.is_current():
            self._shelf.index.refresh()
        return self._decide()

    def _decide(self, spare: str | None = None) -> tuple[Decision, ...]:
        with no_collection():  # a decision for each of a hundred thousand, and nothing to collect
            saved = self._shelf.trusted
            named = [one for one in saved if not is_given_name(one.name)]
            given = [one for one in saved if is_given_name(one.name)] if named else saved
            decisions = decide(self.policy, given, pinned=self._shelf.pinned)
            by_hand = [Decision(saved=one, keep=True, reason="a person named it, and removes it") for one in named]
            decided = sorted((*decisions, *by_hand), key=lambda one: one.saved.sequence) if named else decisions
            just = "just saved; the next save may remove it"
            return tuple(
                attrs.evolve(one, keep=True, reason=just) if one.saved.id == spare and not one.keep else one
                for one in decided
            )

    def prune(self, *, only: Collection[str] | None = None, spare: str | None = None) -> tuple[Decision, ...]:
        """Remove what the policy does not keep, and return what was decided.

        What is called otherwise than we call checkpoints was copied or renamed by a person, and stays.

        Args:
            spare: The id of one that stays this time: what was just saved can be returned to whoever saved it.
            only: Ids of those that may be removed, as a person was shown; the others stay, whatever the policy says.

        Raises:
            StorageError: If one could not be removed. The others were.
        """
        storage = self._shelf.storage
        removed: list[Decision] = []
        troubles: list[StorageError] = []
        with storage.lock():
            self._shelf.index.catch_up()
            decisions = tuple(one for one in self._decide(spare) if one.keep or only is None or one.saved.id in only)
            for one in decisions:
                if one.keep:
                    continue
                try:
                    storage.remove(one.saved.name)
                    removed.append(one)
                except StorageError as error:
                    troubles.append(error)
            if removed:
                self._shelf.index.forget(one.saved.name for one in removed)
                self._shelf.follow()
                if not troubles:
                    self._shelf.index.settle()
        gone = {one.saved.name for one in removed}
        ours = [one for one in decisions if is_given_name(one.saved.name)]  # a person's copy has the id of the original
        self._note_news([one for one in ours if one.keep or one.saved.name in gone])
        for one in removed:
            events.checkpoint_removed(one.saved, storage, one.reason)
        if troubles:
            raise StorageError("; ".join(map(str, troubles))) from troubles[0]
        return decisions

    def pin(self, checkpoint: Path | str, *, reason: str | None = None) -> None:
        """Let *checkpoint* stay whatever the policy says, until it is unpinned; *reason* is written down.

        Raises:
            CheckpointNotFoundError: If there is no such checkpoint here.
        """
        with self._shelf.storage.lock():
            saved = self._shelf.find(str(checkpoint))
            self._shelf.storage.point(f"{PIN}{saved.name}", saved.name)
        write_note(self._shelf.storage, "pinned", name=saved.name, id=saved.id, reason=reason)

    def unpin(self, checkpoint: Path | str) -> bool:
        """Leave *checkpoint* to the policy again; return whether it was pinned.

        Raises:
            CheckpointNotFoundError: If there is no such checkpoint here.
        """
        storage = self._shelf.storage
        with storage.lock():
            saved = self._shelf.find(str(checkpoint))
            pins = [one for one, entry in storage.pointers().items() if one.startswith(PIN) and entry == saved.name]
            for pin in pins:
                storage.point(pin, None)
        if pins:
            write_note(storage, "unpinned", name=saved.name, id=saved.id)
        return bool(pins)

    def set_pointer(self, pointer: str, checkpoint: Path | str) -> None:
        """Let *pointer*, as `final`, lead to *checkpoint*, until that one is removed.

        Raises:
            ConfigurationError: If *pointer* is `best` or `latest`, which follow the index, or the name of a pin or a
                checkpoint.
            CheckpointNotFoundError: If there is no such checkpoint here.
        """
        if pointer in POINTERS or pointer.startswith(PIN) or is_given_name(pointer):
            msg = f"{pointer!r} is set by the manager itself; choose another name"
            raise ConfigurationError(msg)
        with self._shelf.storage.lock():
            self._shelf.storage.point(check_name(pointer), self._shelf.find(str(checkpoint)).name)

    # ------------------------------------------------------------------ history

    def _note_news(self, decisions: Collection[Decision]) -> None:
        """Write down what is not what it was, so that `why` can answer when a checkpoint is gone."""
        storage = self._shelf.storage
        noted = self._recall() if self._noted is None else self._noted
        for one in decisions:
            if one.saved.id not in noted:
                self._note_saved(one.saved)
            event = "kept" if one.keep else "removed"
            answer = f"{event}: {one.reason}"
            if noted.get(one.saved.id) != answer:
                noted[one.saved.id] = answer
                write_note(storage, event, name=one.saved.name, id=one.saved.id, reason=one.reason)
        kept = {one.saved.id for one in decisions if one.keep}
        self._noted = {key: answer for key, answer in noted.items() if key in kept}

    def _note_saved(self, saved: Saved) -> None:
        write_note(
            self._shelf.storage,
            "saved",
            at=saved.created_at,
            name=saved.name,
            id=saved.id,
            reason="; ".join(saved.reasons),
            sequence=saved.sequence,
            run=saved.run,
            epoch=saved.epoch,
            step=saved.step,
            metrics={name: value for name, value in saved.metrics.items() if math.isfinite(value)},
        )

    def _recall(self) -> dict[str, str]:
        """Return the last word on each checkpoint from the history, and add to it what is monitored."""
        storage, monitor = self._shelf.storage, self._monitor
        try:
            notes = read_history(storage, last=RECENT)
        except StorageError as error:
            msg = f"the history in {storage.location('')} cannot be read: {error}"
            warnings.warn(msg, CheckpointWarning, stacklevel=2)
            return {}
        if monitor is not None and remembered_monitor(notes) != monitor:
            write_note(storage, "monitored", metric=monitor.metric, mode=monitor.mode)
        told = {note.id: "" for note in notes if note.id and note.event == "saved"}
        decided = {note.id: f"{note.event}: {note.reason}" for note in notes if note.id and note.event in DECISIONS}
        return {**told, **decided}
