"""The files of published versions: staged, hashed and synced before their row is committed, checked afterwards."""

from __future__ import annotations

import errno
import logging
import os
import secrets
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, get_args

import attrs

from mlc_registry.artifacts.digests import fault_of, root_digest
from mlc_registry.artifacts.staging import Rooms
from mlc_registry.artifacts.transfers import bring, sync_directory
from mlc_registry.errors import CorruptArtifactError, SourceError, StoreError
from mlc_registry.names import directory_name
from mlc_registry.records import Content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import timedelta

    from mlc_registry.artifacts.sources import Source
    from mlc_registry.records import File, Leftover, ModelVersion
    from mlc_registry.semver.versions import Version

__all__ = ["ARTIFACTS", "OWNERS", "Artifacts", "Staged", "Transfer", "refuse_damage", "refuse_place"]

Transfer = Literal["auto", "copy", "link"]
"""How files come into the artifact store: `auto` links those of a committed checkpoint and copies all others."""

ARTIFACTS = "artifacts"
"""The directory beside a database, unless said otherwise."""
OWNERS = ".owners"
# What a file system answers to a rename onto a directory that holds something, or onto a file.
TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}
ATTEMPTS = 100

log = logging.getLogger("mlc_registry")


@attrs.frozen
class Staged:
    """Files that are in the store, hashed and durable, and belong to no version yet."""

    folder: Path
    """A room of the store."""
    files: tuple[File, ...]

    @property
    def digest(self) -> str:
        """The identity of these files."""
        return root_digest(self.files)


class Artifacts:
    """A directory that holds a directory for each version of each model."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._rooms = Rooms(root)

    @property
    def url(self) -> str:
        """The directory."""
        return str(self._root)

    def path(self, directory: str, entry: str) -> Path:
        """Return where a published file or directory lies.

        Raises:
            CorruptArtifactError: If that is outside of the store: somebody has made the database to do harm.
        """
        place = f"{directory}/{entry}"
        if (".." in place and ".." in place.split("/")) or directory.startswith("/") or entry.startswith("/"):
            refuse_place(place)
        return Path(f"{self._root}/{place}")  # a third of the time of joining one by one

    def place(self, published: ModelVersion) -> Path:
        """Return where the file or directory of *published* lies, or would if it were not lost.

        Raises:
            CorruptArtifactError: If that is outside of the store.
        """
        return self.path(published.directory, published.entry)

    def fetch(self, published: ModelVersion, list_files: Callable[[], Sequence[File]], *, verify: bool) -> Path:
        """Return the file or directory of *published*, which is there, and, if *verify*, what was published.

        Raises:
            CorruptArtifactError: If it is not.
        """
        place = self.place(published)
        what = f"{published.model} {published.version}"
        if verify:
            refuse_damage(what, self.find_damage(published.directory, list_files()))
        elif not place.exists():
            msg = f"{place}, which is {what}, is missing; restore it from a copy of the registry"
            raise CorruptArtifactError(msg)
        return place

    @contextmanager
    def read(self, directory: str, file: File) -> Iterator[Content]:
        """Open one published file.

        Raises:
            OSError: If it cannot be read.
            CorruptArtifactError: If it is said to be outside of the store.
        """
        with self.path(directory, file.path).open("rb") as stream:
            status = os.fstat(stream.fileno())
            yield Content(stream=stream, size=status.st_size, mode=status.st_mode & 0o555)

    @contextmanager
    def stage(self, source: Source, transfer: Transfer) -> Iterator[Staged]:
        """Bring the files of *source* into the store's file system, hashed and synced, until the context ends.

        Raises:
            SourceError: If a file cannot be read, or changes while it is.
            StoreError: If there is no room, or the file system fails.
        """
        if transfer not in get_args(Transfer):
            msg = f"transfer={transfer!r} must be one of: {', '.join(get_args(Transfer))}"
            raise SourceError(msg)
        link = transfer == "link" or (transfer == "auto" and source.is_checkpoint)
        with self.room() as folder:
            with _failures(folder):
                files = tuple(bring(member, folder / member.path, link=link) for member in source.members)
                for parent, _, _ in os.walk(folder):
                    sync_directory(Path(parent))
            yield Staged(folder, files)

    @contextmanager
    def room(self) -> Iterator[Path]:
        """Make an empty directory in the store's file system, until the context ends.

        Raises:
            StoreError: If the file system fails.
        """
        with _failures(self._root), ExitStack() as stack:
            folder = stack.enter_context(self._rooms.open())
            kept = stack.pop_all()
        with kept:
            yield folder

    def install(self, staged: Staged, model: str, version: Version) -> str:
        """Move *staged* to its place, durably, and return its directory. It counts for nothing until a row names it.

        Whatever is at that place stays: a publisher that was killed has left it, or another one is at work.

        Raises:
            StoreError: If the file system fails.
        """
        return self.install_folder(staged.folder, model, version)

    def install_folder(self, folder: Path, model: str, version: Version) -> str:
        """Do the same with a *folder* in a `room`, of which the files are known already.

        Raises:
            StoreError: If the file system fails.
        """
        target = self._root / model
        name = directory_name(version)
        with _failures(target):
            try:
                self._move(folder, model, name)
            except OSError as error:
                if error.errno not in TAKEN:
                    raise
                name = f"{name}~{secrets.token_hex(4)}"
                self._move(folder, model, name)
            sync_directory(target)
            sync_directory(self._root)
        return f"{model}/{name}"

    def _move(self, folder: Path, model: str, name: str) -> None:
        self._rooms.announce(folder, f"{model}/{name}")
        for attempt in range(ATTEMPTS):
            (self._root / model).mkdir(exist_ok=True)
            try:
                folder.rename(self._root / model / name)
            except FileNotFoundError:  # a sweeper has removed the empty directory of the model
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return

    def discard(self, directory: str) -> str:
        """Remove what was installed and has no row, or whose version was removed; return why it stays, if it does."""
        try:
            self._rooms.take(self.path(directory, ""))
        except OSError as error:
            return f"{self._root / directory} could not be removed: {error.strerror or error}"
        return ""

    def repair(self, staged: Staged, published: ModelVersion) -> list[str]:
        """Put those of the *staged* files that are not as *published* in their place, each at once; say what was not.

        What was never published is named, and stays.

        Raises:
            StoreError: If the file system fails.
        """
        damage = self.find_damage(published.directory, staged.files)
        folder = self.path(published.directory, "")
        with _failures(folder):
            for one in staged.files if damage else ():
                target = folder / one.path
                if not fault_of(target, one):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.parent.resolve().is_relative_to(folder.resolve()):
                    refuse_place(str(target.parent.resolve()))
                (staged.folder / one.path).replace(target)
                sync_directory(target.parent)
        return damage

    def claim(self, owner: str) -> None:
        """Note that the registry whose history begins with the digest *owner* keeps files here."""
        mark = self._root / OWNERS / owner
        with suppress(OSError):  # it is for sweepers, and no reason not to publish
            if not mark.exists():
                mark.parent.mkdir(exist_ok=True)
                mark.touch()

    def owners(self) -> frozenset[str]:
        """Return who has claimed it.

        Raises:
            StoreError: If the file system fails.
        """
        with _failures(self._root):
            try:
                return frozenset(one.name for one in (self._root / OWNERS).iterdir())
            except FileNotFoundError:
                return frozenset()

    def sweep(
        self, published: Callable[[str], Iterable[str]], *, older_than: timedelta, dry_run: bool
    ) -> tuple[Leftover, ...]:
        """Find what killed publishers left, and remove it unless *dry_run*; see `Sweep`.

        Raises:
            StoreError: If nobody can tell who is at work, or the file system fails.
        """
        from mlc_registry.artifacts.sweeping import Sweep

        try:
            return Sweep(self._root, self._rooms, published, older_than=older_than).run(dry_run=dry_run)
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            msg = f"{self._root} was not swept to the end: {error.strerror or error}"
            raise StoreError(msg) from error

    def find_damage(self, directory: str, files: Sequence[File]) -> list[str]:
        """Hash what is there and return what is not as published, in words: nothing when all is well.

        Raises:
            CorruptArtifactError: If a file is said to be outside of the store.
        """
        folder = self.path(directory, "")
        for one in files:
            if one.path.startswith("/") or ".." in one.path.split("/"):
                refuse_place(one.path)
        damage = [f"{one.path} {fault}" for one in files if (fault := fault_of(folder / one.path, one))]
        present = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
        extra = {path.relative_to(folder).as_posix() for path in present} - {one.path for one in files}
        return damage + [f"{path} was never published" for path in sorted(extra)]


def refuse_damage(what: str, damage: Sequence[str]) -> None:
    """Refuse *what* if there is *damage*.

    Raises:
        CorruptArtifactError: Names all of it.
    """
    if damage:
        msg = f"{what} is not what was published:\n  " + "\n  ".join(damage)
        raise CorruptArtifactError(msg)


def refuse_place(place: str) -> NoReturn:
    """Refuse a *place* that is outside of the store.

    Raises:
        CorruptArtifactError: Always.
    """
    msg = f"the database says that something was published at {place!r}, outside of the registry; it is not used"
    raise CorruptArtifactError(msg)


@contextmanager
def _failures(place: Path) -> Iterator[None]:
    try:
        yield
    except (SourceError, StoreError):
        raise
    except OSError as error:
        msg = f"nothing was published, as {place} could not be written: {error.strerror or error}"
        raise StoreError(msg) from error
