"""From a plan to a committed checkpoint, and to what retention removes after it: the order that nothing may change."""

from __future__ import annotations

import warnings
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from mlc_core import events
from mlc_core.errors import CheckpointWarning, EntryExistsError, StorageError
from mlc_core.history import highest_sequence, read_history
from mlc_core.increment import Increment
from mlc_core.naming import entry_names
from mlc_core.records import Saved
from mlc_core.writer import draft, new_id, now, versions, write_here

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_core.keeper import Keeper
    from mlc_core.records import FileRecord
    from mlc_core.shelf import Shelf
    from mlc_core.writer import Plan, Write

__all__ = ["Facts", "Saver", "Uncommitted"]

RECENT = 1000  # notes; the newest checkpoint's number is among them
NAMES_TO_TRY = 10  # when names are taken by what is no checkpoint, such as one whose manifest was deleted


@attrs.frozen(kw_only=True)
class Facts:
    """What is known of a checkpoint at the moment that is saved, whenever it is written."""

    reasons: tuple[str, ...]
    epoch: int | None
    step: int | None
    epoch_ended: bool
    metrics: Mapping[str, float]
    elapsed: float
    strategy: Mapping[str, Any]
    """What the strategy remembers of it, if it is saved."""

    def saved(
        self, *, model: str, run: str | None, name: str, sequence: int, files: Uncommitted | None = None
    ) -> Saved:
        """Return the record of the checkpoint that has these facts."""
        return Saved(
            model=model,
            run=run,
            name=name,
            sequence=sequence,
            id=new_id(),
            created_at=now(),
            versions=versions(),
            items=files.items if files else (),
            files=files.files if files else (),
            **{field.name: getattr(self, field.name) for field in attrs.fields(Facts)},
        )


class Uncommitted(Protocol):
    """Files that are durable and that nobody can see yet."""

    @property
    def items(self) -> tuple[str, ...]:
        """The names of what they hold."""

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Their records."""

    def commit(self, saved: Saved) -> None:
        """Make them visible as *saved*.

        Raises:
            EntryExistsError: If its name is taken; another one may be tried.
        """


class Saver:
    """Saves to the storage of *shelf*, and lets *keeper* remove what goes. One save at a time, in any thread."""

    def __init__(self, shelf: Shelf, keeper: Keeper, *, model: str, run: str | None) -> None:
        self._shelf = shelf
        self._keeper = keeper
        self._model = model
        self._run = run
        self._increment = Increment()
        with suppress(StorageError):  # a history that cannot be read has no numbers either
            shelf.index.count_from(highest_sequence(read_history(shelf.storage, last=RECENT)))

    def save(self, plan: Plan, facts: Facts, *, write: Write = write_here) -> Saved:
        """Write and commit what *plan* says, tell of it, then prune. It is durable when this returns.

        Raises:
            DiskFullError, StorageError: If there is no room or the storage fails. What was saved before is untouched.
        """
        storage, before = self._shelf.storage, self._shelf.trusted_latest
        with draft(storage, plan, before=before, increment=self._increment, write=write) as files:
            saved = self.commit(files, facts)
            self._increment.remember(files.written())
        self.conclude(saved)
        return saved

    def conclude(self, saved: Saved) -> None:
        """Tell of *saved*, which is durable now, and remove what goes."""
        events.checkpoint_saved(saved, self._shelf.storage)
        try:
            self._keeper.prune(spare=saved.id)
        except Exception as error:  # a policy may be anybody's
            msg = f"{saved.name} is saved, and what it replaces could not be removed: {error}"
            warnings.warn(msg, CheckpointWarning, stacklevel=4)

    def expect(self, facts: Facts) -> Saved:
        """Return the record that the next save would leave, for strategies to look at while it is under way."""
        sequence = self._shelf.index.next_sequence
        return facts.saved(model=self._model, run=self._run, name="under way", sequence=sequence)

    def commit(self, files: Uncommitted, facts: Facts) -> Saved:
        """Give *files* a name, and make them visible, in one step and durably.

        Raises:
            StorageError: If that failed.
        """
        taken_meanwhile: list[EntryExistsError] = []
        storage, index = self._shelf.storage, self._shelf.index
        with storage.lock():
            index.catch_up()
            names = entry_names(facts.epoch, facts.step, epoch_ended=facts.epoch_ended, taken=index.taken)
            for name in islice(names, NAMES_TO_TRY):
                saved = facts.saved(
                    model=self._model, run=self._run, name=name, sequence=index.next_sequence, files=files
                )
                try:
                    files.commit(saved)
                except EntryExistsError as error:
                    taken_meanwhile.append(error)
                    continue
                index.add(name)
                self._shelf.follow()
                index.settle()
                return saved
        raise taken_meanwhile[-1]
