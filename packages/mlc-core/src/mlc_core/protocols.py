"""What a plugin must be able to do: one small protocol for each kind of part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mlc_core.memory import Deferred
    from mlc_core.records import Moment, Saved

    Buffer = bytes | bytearray | memoryview

__all__ = [
    "CachingStorage",
    "Capabilities",
    "JoinableStaging",
    "JoinableStorage",
    "LinkingStaging",
    "RetentionPolicy",
    "SaveStrategy",
    "Serializer",
    "Staging",
    "Storage",
    "TensorBytes",
]


@runtime_checkable
class SaveStrategy(Protocol):
    """When to save.

    One that says nothing but at the end of an epoch may have the attribute `epoch_ends_only = True`: then it need not
    be asked after every step.
    """

    def should_save(self, moment: Moment) -> str | None:
        """Return why *moment* should be saved, in a few words, or None. Asked once per moment, in order."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must survive a restart, as plain data. It is stored in each checkpoint's manifest."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from *state*."""


@runtime_checkable
class RetentionPolicy(Protocol):
    """What to keep. A pure function: the same checkpoints give the same answer, whatever the clock says."""

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Return why to keep it for the `id` of each checkpoint to be kept; *saved* is in order of commit."""


@attrs.frozen
class TensorBytes:
    """A tensor without its framework: what serializers see."""

    dtype: str
    """As safetensors spells it: `F32`, `BF16`, `I64`, …"""
    shape: tuple[int, ...]
    source: Buffer | Deferred
    """Where the elements are, in C order, little-endian."""

    @property
    def data(self) -> Buffer:
        """The elements as a buffer, copied from a device or another layout where they must be."""
        return self.source if isinstance(self.source, (bytes, bytearray, memoryview)) else self.source.view()

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.source) if isinstance(self.source, (bytes, bytearray, memoryview)) else self.source.size


class Serializer(Protocol):
    """How tensors become one file, and come back."""

    suffix: str
    """The end of the file's name, with the dot."""

    def dump(self, tensors: Mapping[str, TensorBytes]) -> tuple[int, Iterable[Buffer]]:
        """Return how many bytes the file will have, and its content in pieces."""

    def load(self, data: memoryview) -> Mapping[str, TensorBytes]:
        """Return the tensors in *data*, sharing its memory.

        Raises:
            ValueError: If *data* is not such a file; no size in it may be believed before it is checked.
        """


@attrs.frozen(kw_only=True)
class Capabilities:
    """What a storage can promise beyond the protocol."""

    durable: bool
    """What is committed survives a power cut."""
    shared: bool
    """Several processes may write to it at once."""
    links: bool = False
    """What it stages is a `LinkingStaging`: a file that did not change need not be written again."""
    joins: bool = False
    """It is a `JoinableStorage`: several processes may write one checkpoint together."""
    caches: bool = False
    """It is a `CachingStorage`: who knew it before need not look at every entry again."""


class Staging(Protocol):
    """A checkpoint on its way: invisible to readers until it is committed."""

    def write(self, file: str, size: int, pieces: Iterable[Buffer]) -> str:
        """Write *file* of *size* bytes and return its XXH3 128-bit digest, 32 hexadecimal digits.

        The file is durable when this returns. A piece may be used only until the next one is asked for.

        Raises:
            StorageError: If the pieces have not *size* bytes together, or the storage failed.
        """

    def commit(self, entry: str, manifest: bytes) -> None:
        """Make all of it visible under the name *entry*, in one step, durably.

        Raises:
            EntryExistsError: If that name is taken. Nothing is ever overwritten, and another name may be tried.
            StorageError: If it failed. After the last step it may be there all the same, complete and not yet durable.
        """

    def discard(self) -> None:
        """Forget what was written. Does nothing after a commit, and never raises."""


class LinkingStaging(Staging, Protocol):
    """A staging that can take a file over from a committed checkpoint, without writing it."""

    def link(self, file: str, entry: str) -> None:
        """Let *file* be what it is in the committed *entry*. Removing either checkpoint never harms the other.

        Raises:
            StorageError: If that cannot be done; *file* can still be written.
        """


class Storage(Protocol):
    """Where the checkpoints of one model lie: entries with files, each complete or not there.

    Every method may raise `StorageError`; what was committed before stays as it was.
    """

    url: str

    @property
    def capabilities(self) -> Capabilities:
        """What can be relied upon."""

    def entries(self) -> Mapping[str, str]:
        """Return the committed entries, each with a token that changes when another takes its name."""

    def read(self, entry: str, file: str) -> memoryview:
        """Return the content of *file*; writing to the memory does not reach the storage.

        Raises:
            FileNotFoundError: If there is no such entry or file.
        """

    def stage(self, size: int) -> Staging:
        """Begin a checkpoint of about *size* bytes.

        Raises:
            DiskFullError: If there is certainly no room for it.
        """

    def remove(self, entry: str) -> None:
        """Remove *entry*: invisible in one step, gone soon after. Removing what is not there is no error."""

    def lock(self) -> AbstractContextManager[None]:
        """Keep other writers out of the short time between deciding and committing. Not to be taken twice at once."""

    def pointers(self) -> Mapping[str, str]:
        """Return the pointers, as `latest`, and the entries they point to."""

    def point(self, pointer: str, entry: str | None) -> None:
        """Let *pointer* point to *entry*, in one step and durably; None removes it."""

    def location(self, entry: str) -> Path | str:
        """Return where *entry* lies: a path where there is a file system, else a URL."""

    def sweep(self) -> Sequence[str]:
        """Remove what writers that died left behind, and return what that was."""

    def set_aside(self, entry: str) -> str:
        """Take *entry* out of the checkpoints, in one step, without deleting anything; return where it lies now.

        Raises:
            FileNotFoundError: If there is no such entry.
        """

    def note(self, line: bytes) -> None:
        """Append a *line* without a line break to the history. It need not survive a power cut."""

    def notes(self, last: int | None = None) -> Sequence[bytes]:
        """Return the lines of the history, oldest first: all, or the *last* ones."""


@runtime_checkable
class JoinableStorage(Storage, Protocol):
    """A storage where several processes can write one checkpoint together."""

    def stage(self, size: int) -> JoinableStaging:
        """Begin a checkpoint of about *size* bytes, as every storage does."""

    def join(self, token: str) -> Staging:
        """Take part in what another process staged, named by its *token*. Its `discard` only takes leave.

        Raises:
            StorageError: If nothing of that name is staged.
        """


class JoinableStaging(Staging, Protocol):
    """A staging that other processes can write to."""

    @property
    def token(self) -> str:
        """What another process needs to know to `join`."""


@runtime_checkable
class CachingStorage(Storage, Protocol):
    """A storage with ways to know a hundred thousand entries without looking at each of them."""

    def glance(self) -> Mapping[str, str]:
        """Return what may be an entry, each with the part of its token before the first full stop.

        That part changes when another entry takes the name, as far as this can be told without looking inside.
        """

    def token(self, entry: str) -> str | None:
        """Return what `entries` says of *entry*, or None if there is no such entry."""

    def mark(self) -> str | None:
        """Return a mark that holds until the next entry or pointer comes or goes, whoever does it.

        None if that cannot be promised here. Only for who holds the lock: it undoes the marks of others.
        """

    def holds(self, mark: str) -> bool:
        """Say whether no entry and no pointer came or went since this *mark* was made."""

    def read_cache(self) -> bytes | None:
        """Return what `write_cache` wrote last, if it is still there. It may be torn."""

    def write_cache(self, data: bytes) -> None:
        """Replace the cache, in one step. It need not survive anything."""
