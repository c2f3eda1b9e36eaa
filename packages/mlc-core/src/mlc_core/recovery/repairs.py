"""The repairs themselves: each says what is wrong and what it would do, and does it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import attrs
import xxhash

from mlc_core.errors import StorageError
from mlc_core.history import write_note
from mlc_core.naming import MANIFEST
from mlc_core.recovery.leftovers import Leftover, remove_leftover
from mlc_core.recovery.quarantine import quarantine
from mlc_core.storage import files, local

if TYPE_CHECKING:
    from mlc_core.protocols import LinkingStaging
    from mlc_core.records import FileRecord, Monitor, Saved
    from mlc_core.recovery.sources import Source
    from mlc_core.storage import LocalStorage

__all__ = ["FileRepair", "LeftoverRepair", "LinkRepair", "QuarantineRepair", "Repair"]


class Repair(Protocol):
    """One thing that can be put right."""

    @property
    def kind(self) -> str:
        """Say what is repaired, in a word."""

    @property
    def what(self) -> str:
        """Say what is wrong there: a name below the model's directory."""

    @property
    def wrong(self) -> str:
        """Say why it is not right."""

    @property
    def remedy(self) -> str:
        """Say what `apply` would do."""

    def apply(self, storage: LocalStorage) -> None:
        """Do it.

        Raises:
            StorageError: If it cannot be done, or things are not any more as they were when it was planned.
        """


@attrs.frozen(kw_only=True)
class FileRepair:
    """Put the content of *source* in the place of a file, without ever writing to the file that is there.

    What is there may be one file under several names; only this name gets a new one.
    """

    saved: Saved
    record: FileRecord
    source: Source
    wrong: str
    token: str
    """What the storage says of the checkpoint when the repair is planned."""
    kind: str = attrs.field(default="file", init=False)

    @property
    def what(self) -> str:
        """The file."""
        return f"{self.saved.name}/{self.record.name}"

    @property
    def remedy(self) -> str:
        """Where it comes from."""
        return f"put back from {self.source}"

    def apply(self, storage: LocalStorage) -> None:
        """Write or link it beside, hold it against its digest, then let it take the place in one step."""
        root = storage.location("")
        target = root / self.saved.name / self.record.name
        staging = storage.stage(self.record.size)
        try:
            new = root / local.STAGING / staging.token / self.record.name
            if not self._linked(storage, staging):
                staging.write(self.record.name, self.record.size, [self.source.read(self.record)])
            with files.failures(new):
                found = files.view(new)
            if len(found) != self.record.size or xxhash.xxh3_128_hexdigest(found) != self.record.xxh3_128:
                msg = f"{target} stays as it is: what was copied from {self.source} changed on its way"
                raise StorageError(msg)
            with storage.lock(), files.failures(target):
                if storage.entries().get(self.saved.name) != self.token:
                    msg = f"{target.parent} was removed or replaced meanwhile"
                    raise StorageError(msg)
                # No newer than its manifest: else it would count as changed, and the next save could not share it.
                written = min((target.parent / MANIFEST).stat().st_mtime_ns, new.stat().st_mtime_ns)
                os.utime(new, ns=(written, written))
                os.replace(new, target)  # noqa: PTH105 - whoever reads the old file goes on reading the old file
                files.sync_directory(target.parent)
                if self.record.name == MANIFEST:
                    os.utime(root)  # whoever asks whether anything came or went is to look again
        finally:
            staging.discard()
        write_note(storage, "repaired", name=self.saved.name, id=self.saved.id, reason=f"{self.wrong}: {self.remedy}")

    def _linked(self, storage: LocalStorage, staging: LinkingStaging) -> bool:
        if self.source.storage.url != storage.url or self.source.file != self.record.name:
            return False
        try:
            staging.link(self.record.name, self.source.entry)
        except StorageError:
            return False  # the file system takes no more links to it, or none at all: it is written instead
        return True


@attrs.frozen(kw_only=True)
class QuarantineRepair:
    """Set aside what cannot be mended."""

    name: str
    wrong: str
    monitor: Monitor | None
    kind: str = attrs.field(default="quarantine", init=False)

    @property
    def what(self) -> str:
        """The checkpoint."""
        return self.name

    @property
    def remedy(self) -> str:
        """Where it goes."""
        return "set aside in quarantine; nothing is deleted"

    def apply(self, storage: LocalStorage) -> None:
        """Move it."""
        try:
            quarantine(storage, self.name, self.wrong, monitor=self.monitor)
        except FileNotFoundError as error:
            raise StorageError(str(error)) from error


@attrs.frozen(kw_only=True)
class LinkRepair:
    """Let a link lead where it should, or nowhere."""

    link: str
    before: str | None
    after: str | None
    wrong: str
    kind: str = attrs.field(default="link", init=False)

    @property
    def what(self) -> str:
        """The link."""
        return self.link

    @property
    def remedy(self) -> str:
        """Where it will lead."""
        return "remove it" if self.after is None else f"let it lead to {self.after}"

    def apply(self, storage: LocalStorage) -> None:
        """Set or remove it, unless a training that goes on has set it meanwhile."""
        with storage.lock():
            if storage.pointers().get(self.link) != self.before:
                return
            if self.after is not None and self.after not in storage.entries():
                msg = f"{self.link} stays as it is: {self.after} was removed meanwhile"
                raise StorageError(msg)
            storage.point(self.link, self.after)


@attrs.frozen(kw_only=True)
class LeftoverRepair:
    """Delete what a writer left behind."""

    leftover: Leftover
    wrong: str
    kind: str = attrs.field(default="leftover", init=False)

    @property
    def what(self) -> str:
        """The directory."""
        path = self.leftover.path
        return "/".join(path.parts[-3:])

    @property
    def remedy(self) -> str:
        """What happens to it."""
        return "delete it"

    def apply(self, storage: LocalStorage) -> None:
        """Delete it."""
        remove_leftover(self.leftover)
