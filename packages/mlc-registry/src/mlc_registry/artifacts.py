"""The files of published versions: staged, hashed and synced before their row is committed, checked afterwards."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, get_args

import attrs

from mlc_registry.digests import fault_of, root_digest
from mlc_registry.errors import CorruptArtifactError, SourceError, StoreError
from mlc_registry.names import directory_name
from mlc_registry.transfers import bring, sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlc_registry.records import File
    from mlc_registry.sources import Source
    from mlc_registry.versions import Version

__all__ = ["Artifacts", "Staged", "Transfer"]

Transfer = Literal["auto", "copy", "link"]
"""How files come into the artifact store: `auto` links those of a committed checkpoint and copies all others."""

STAGING = ".staging"
# What a file system answers to a rename onto a directory that holds something, or onto a file.
TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}

log = logging.getLogger("mlc_registry")


@attrs.frozen
class Staged:
    """Files that are on disk, hashed and synced, and belong to no version yet."""

    folder: Path
    files: tuple[File, ...]

    @property
    def digest(self) -> str:
        """The identity of these files."""
        return root_digest(self.files)


class Artifacts:
    """A directory that holds a directory for each version of each model."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, directory: str, entry: str) -> Path:
        """Return where a published file or directory lies.

        Raises:
            CorruptArtifactError: If that is outside of the store: somebody has made the database to do harm.
        """
        place = f"{directory}/{entry}"
        if (".." in place and ".." in place.split("/")) or directory.startswith("/") or entry.startswith("/"):
            _refuse_place(place)
        return Path(f"{self._root}/{place}")  # a third of the time of joining one by one

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
        folder = self._root / STAGING / secrets.token_hex(16)
        try:
            with _failures(folder):
                folder.mkdir(parents=True)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # once installed, nothing is left of it

    def install(self, staged: Staged, model: str, version: Version) -> str:
        """Move *staged* to its place, durably, and return its directory. It counts for nothing until a row names it.

        Whatever is at that place stays: a publisher that was killed has left it, or another one is at work.

        Raises:
            StoreError: If the file system fails.
        """
        folder = self._root / model
        name = directory_name(version)
        with _failures(folder):
            folder.mkdir(exist_ok=True)
            try:
                staged.folder.rename(folder / name)
            except OSError as error:
                if error.errno not in TAKEN:
                    raise
                name = f"{name}~{secrets.token_hex(4)}"
                staged.folder.rename(folder / name)
            sync_directory(folder)
            sync_directory(self._root)
        return f"{model}/{name}"

    def discard(self, directory: str) -> None:
        """Remove what was installed and is known to have no row."""
        shutil.rmtree(self._root / directory, ignore_errors=True)

    def point_latest(self, model: str, directory: str | None) -> None:
        """Let the link `latest` of *model* lead to *directory*, or remove it. For people: nothing reads it."""
        link = self._root / model / "latest"
        fresh = link.with_name(f".latest-{secrets.token_hex(8)}")
        try:
            if directory is None:
                link.unlink(missing_ok=True)
            else:
                fresh.symlink_to(directory.partition("/")[2])
                fresh.replace(link)  # a link cannot be changed in place
        except OSError as error:
            log.warning("the link %s could not be moved: %s", link, error)

    def check(self, what: str, directory: str, files: Sequence[File]) -> None:
        """Hash the *files* in *directory*, which are *what*.

        Raises:
            CorruptArtifactError: If one is missing, changed or was never published; names each.
        """
        damage = self.find_damage(directory, files)
        if damage:
            msg = f"{what} is not what was published:\n  " + "\n  ".join(damage)
            raise CorruptArtifactError(msg)

    def find_damage(self, directory: str, files: Sequence[File]) -> list[str]:
        """Hash what is there and return what is not as published, in words: nothing when all is well.

        Raises:
            CorruptArtifactError: If a file is said to be outside of the store.
        """
        folder = self.path(directory, "")
        for one in files:
            if one.path.startswith("/") or ".." in one.path.split("/"):
                _refuse_place(one.path)
        damage = [f"{one.path} {fault}" for one in files if (fault := fault_of(folder / one.path, one))]
        present = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
        extra = {path.relative_to(folder).as_posix() for path in present} - {one.path for one in files}
        return damage + [f"{path} was never published" for path in sorted(extra)]


def _refuse_place(place: str) -> NoReturn:
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
