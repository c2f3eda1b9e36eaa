"""Published files on this machine: brought once, by their digest, and read by every process."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import orjson

from mlc_hooks import MlcError
from mlc_registry.artifacts.digests import fault_of, root_digest
from mlc_registry.artifacts.local import refuse_damage, refuse_place
from mlc_registry.errors import CorruptArtifactError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlc_registry.records import File

__all__ = ["Cache", "Wanted", "find_cache"]

DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
PIECE = 8 << 20


def find_cache() -> Path:
    """Return where this user's machine keeps what can be had again, `MLC_CACHE` or the platform's place for it.

    Raises:
        StoreError: If neither is known.
    """
    given = os.environ.get("MLC_CACHE", "")
    if given:
        return Path(given).absolute() / "registry"
    try:
        if sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            found = os.environ.get("XDG_CACHE_HOME", "")
            base = Path(found) if Path(found).is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        msg = f"there is no home directory to keep files in ({error}); say where they go, with MLC_CACHE=DIRECTORY"
        raise StoreError(msg) from error
    return base / "mlc" / "registry"


@attrs.frozen(kw_only=True)
class Wanted:
    """A version that is to be here, and how to have it."""

    what: str
    """The model and version, for errors."""
    digest: str
    files: Sequence[File]
    bring: Callable[[File], memoryview]
    """Returns the content of one."""
    modes: Callable[[], Mapping[str, int]]
    """Returns the permissions of those that have unusual ones, by path."""


class Cache:
    """A directory `HEX/files` for each digest of a version, with a record of what was brought beside it.

    It can be deleted whenever nobody reads it. A version is brought under a lock, into a directory of its own that is
    renamed when every file was hashed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def place(self, digest: str, entry: str) -> Path:
        """Return where the file *entry* of the version with *digest*, or its directory, is or will be.

        Raises:
            CorruptArtifactError: If that would be outside of the cache: somebody has made the database to do harm.
        """
        match = DIGEST.fullmatch(digest)
        if match is None or entry.startswith("/") or ".." in entry.split("/"):
            refuse_place(f"{digest}/{entry}")
        return Path(f"{self._root}/{match[1]}/files/{entry}")

    def fetch(self, wanted: Wanted, *, verify: bool) -> None:
        """Bring what is *wanted*, unless it is here.

        Files that are here and were touched since they were brought, or, with *verify*, have other content, are brought
        again.

        Raises:
            CorruptArtifactError: If what is brought is not what was published.
            StoreError: If it cannot be written here.
        """
        files = wanted.files
        folder = self.place(wanted.digest, "").parent
        for one in files:
            self.place(wanted.digest, one.path)
        if root_digest(files) != wanted.digest:
            refuse_damage(wanted.what, ["its list of files has another digest than the version"])
        if self._is_sound(folder, files, verify=verify):
            return
        with self._locked(folder):
            if not self._is_sound(folder, files, verify=verify):  # another process may have brought it meanwhile
                self._bring(folder, wanted)

    def _is_sound(self, folder: Path, files: Sequence[File], *, verify: bool) -> bool:
        try:
            record = orjson.loads((folder / "fetched.json").read_bytes())
            for one in files:
                status = (folder / "files" / one.path).lstat()
                if not stat.S_ISREG(status.st_mode) or record[one.path] != [status.st_size, status.st_mtime_ns]:
                    return False
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return not verify or not any(fault_of(folder / "files" / one.path, one) for one in files)

    def _bring(self, folder: Path, wanted: Wanted) -> None:
        partial, old = folder.with_name(f"{folder.name}.partial"), folder.with_name(f"{folder.name}.old")
        for left in (partial, old):  # of a process that was killed
            if left.exists():
                shutil.rmtree(left)
        try:
            modes = wanted.modes()
            record = {
                one.path: self._write(partial / "files", wanted, one, modes.get(one.path, 0o444))
                for one in wanted.files
            }
            (partial / "fetched.json").write_bytes(orjson.dumps(record))
            if folder.exists():
                folder.rename(old)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)

    def _write(self, folder: Path, wanted: Wanted, file: File, mode: int) -> list[int]:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            content = wanted.bring(file)
        except FileNotFoundError as error:
            msg = f"{wanted.what} is not what was published:\n  {file.path} is missing"
            raise CorruptArtifactError(msg) from error
        with target.open("xb") as stream:
            for begin in range(0, len(content), PIECE):
                stream.write(content[begin : begin + PIECE])
            os.fchmod(stream.fileno(), mode & 0o555 | 0o400)
        fault = fault_of(target, file)  # what was written, rather than what was meant to be
        if fault:
            refuse_damage(wanted.what, [f"{file.path} {fault}"])
        status = target.lstat()
        return [status.st_size, status.st_mtime_ns]

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        """Let one process bring a version; the kernel frees the lock if it dies."""
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(f"{folder}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)
        except MlcError:
            raise
        except OSError as error:
            msg = f"{folder} could not be written: {error.strerror or error}; set MLC_CACHE to a place with room"
            raise StoreError(msg) from error
