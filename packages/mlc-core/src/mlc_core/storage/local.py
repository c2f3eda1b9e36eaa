"""A local directory: staged beside its target, synced, renamed, and the directory synced.

The protocol is the one that survives a power cut on ext4 and xfs: files synced, then the manifest, then the staging
directory, then the rename, then the parent. A reader that finds no manifest finds no checkpoint.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mlc_core.errors import ConfigurationError, DiskFullError, EntryExistsError, StorageError
from mlc_core.naming import MANIFEST, check_name, is_name
from mlc_core.protocols import Capabilities
from mlc_core.storage import files
from mlc_core.storage.removal import delete, wait_until_deleted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlc_core.protocols import Buffer

__all__ = ["LocalStorage"]

OWN = ".mlc"  # everything that is no checkpoint; in a place of its own, so that the root changes with commits only
STAGING, TRASH, QUARANTINE, HISTORY = f"{OWN}/staging", f"{OWN}/trash", f"{OWN}/quarantine", f"{OWN}/history.jsonl"
CACHE = f"{OWN}/index.cache"
LARGEST_CACHE = 1 << 30  # bytes; some hundred for each checkpoint
MARKS = 1 << 30  # nanoseconds, about a second: so many marks there are, and so far in the past
GRACE = 60.0  # seconds; younger leftovers may belong to a writer that is about to lock them
LONG_LINE = 4096  # bytes; of the history's last lines, those are found that lie within so much for each
ROOM_TO_SPARE = 1 << 20  # bytes for manifests, directories and the file system's own records


class LocalStorage:
    """The checkpoints of one model in the directory *root*, which is made with the first checkpoint."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.url = root.absolute().as_uri()

    @classmethod
    def from_url(cls, url: str) -> LocalStorage:
        """Open a `file://` URL."""
        return cls(Path(unquote(urlsplit(url).path)))

    @property
    def capabilities(self) -> Capabilities:
        """Durable, shared by the processes that see the directory, with hard links."""
        return Capabilities(durable=True, shared=True, links=True, joins=True, caches=True)

    def entries(self) -> Mapping[str, str]:
        """Return the directories that hold a manifest; the token tells a directory from a later one of its name.

        A directory that somebody called `epoch_3 (copy)` is theirs: not listed, never removed, and still to be opened.
        """
        found = {name: self._token(name, place) for name, place in self.glance().items()}
        return {name: token for name, token in found.items() if token is not None}

    def glance(self) -> Mapping[str, str]:
        """Return the directories, whether or not they hold a manifest, with their inodes."""
        found = {}
        with suppress(FileNotFoundError), self._scan() as scan:
            for one in scan:
                if is_name(one.name) and one.is_dir(follow_symlinks=False):
                    found[one.name] = str(one.inode())
        return found

    def token(self, entry: str) -> str | None:
        """Return the inodes of the directory and its manifest, and when that one was written."""
        try:
            return self._token(entry, str((self._root / check_name(entry)).lstat().st_ino))
        except OSError:
            return None

    def _token(self, entry: str, place: str) -> str | None:
        try:
            status = os.stat(f"{self._root}/{entry}/{MANIFEST}")  # noqa: PTH116 - a Path for each costs more than the call
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return "unreadable"  # reading will say why
        return f"{place}.{status.st_ino}.{status.st_mtime_ns}"

    def mark(self) -> str | None:
        """Give the directory a time in the past that nothing else gives it: whatever changes it brings the present.

        Its own time would not do: two changes within one tick of the clock have the same.
        """
        time_ns = time.time_ns() - MARKS - secrets.randbelow(MARKS)
        try:
            status = self._root.stat()
            os.utime(self._root, ns=(status.st_atime_ns, time_ns))
            kept = self._root.stat().st_mtime_ns == time_ns  # some file systems round
        except OSError:
            return None  # it belongs to somebody else
        return self._state() if kept else None

    def holds(self, mark: str) -> bool:
        """Say whether the directory still has that time."""
        try:
            return self._state() == mark
        except OSError:
            return False

    def _state(self) -> str:
        status = self._root.stat()
        return f"{status.st_dev}.{status.st_ino}.{status.st_mtime_ns}.{status.st_ctime_ns}"

    def read_cache(self) -> bytes | None:
        """Read `index.cache`, unless it is absurdly large or no plain file."""
        path = self._root / CACHE
        with files.failures(path), suppress(FileNotFoundError, NotADirectoryError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not make us wait
            try:
                status = os.fstat(descriptor)
                if stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_CACHE:
                    with os.fdopen(descriptor, "rb", closefd=False) as opened:
                        return opened.read()
            finally:
                os.close(descriptor)
        return None

    def write_cache(self, data: bytes) -> None:
        """Write a new `index.cache` and rename it into its place; nothing is synced."""
        with files.failures(self._root / CACHE):
            new = self._make(TRASH) / uuid.uuid4().hex
            try:
                new.write_bytes(data)
                new.replace(self._root / CACHE)
            finally:
                new.unlink(missing_ok=True)

    def read(self, entry: str, file: str) -> memoryview:
        """Read a short *file*, or map a long one privately."""
        if entry in {"", ".", ".."} or "/" in entry or "\0" in entry:
            msg = f"{entry!r} is not the name of a directory beside the others"
            raise ConfigurationError(msg)
        path = self._root / entry / check_name(file)
        with files.failures(path, missing=FileNotFoundError):
            return files.view(path)

    def stage(self, size: int) -> LocalStaging:
        """Make a staging directory, after asking whether there is room for *size* bytes."""
        with files.failures(self._root):
            files.make_directory(self._root)
            try:
                files.check_room(self._root, size + ROOM_TO_SPARE)
            except DiskFullError:
                wait_until_deleted()  # there may be room in a moment
                files.check_room(self._root, size + ROOM_TO_SPARE)
            return LocalStaging(self._root, self._make(STAGING) / uuid.uuid4().hex)

    def join(self, token: str) -> LocalStaging:
        """Take part in what another process staged."""
        path = self._root / STAGING / check_name(token)
        with files.failures(path):
            return LocalStaging(self._root, path, joined=True)

    def _make(self, folder: str) -> Path:
        path = self._root / folder
        if not self._is_here(folder):
            msg = f"{path} leads elsewhere; nothing is written or deleted there: remove the link"
            raise StorageError(msg)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _is_here(self, folder: str) -> bool:
        """Say whether *folder* is ours and no link: what is swept there is deleted."""
        return not any((self._root / path).is_symlink() for path in (OWN, folder))

    def remove(self, entry: str) -> None:
        """Rename *entry* out of sight; it is deleted soon after."""
        with files.failures(self._root):
            trash = self._make(TRASH) / uuid.uuid4().hex
            try:
                (self._root / check_name(entry)).rename(trash)
            except FileNotFoundError:
                return
            files.sync_directory(self._root)
            delete(trash)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Wait for and hold the directory's lock; the kernel frees it if we die."""
        with files.failures(self._root):
            files.make_directory(self._root)
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with files.failures(self._root):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing does not free it while a forked child has it open
            os.close(descriptor)

    def pointers(self) -> Mapping[str, str]:
        """Return the links that lead to entries beside them, or to where one was; other links are somebody else's."""
        found = {}
        with suppress(FileNotFoundError), self._scan() as scan:
            for one in scan:
                if one.is_symlink() and is_name(one.name):
                    target = str(Path(one.path).readlink())
                    if is_name(target) and (self.token(target) is not None or not Path(one.path).exists()):
                        found[one.name] = target
        return found

    def point(self, pointer: str, entry: str | None) -> None:
        """Replace the relative link *pointer*, atomically and durably."""
        link = self._root / check_name(pointer)
        with files.failures(link):
            if entry is None:
                if link.is_symlink():
                    link.unlink(missing_ok=True)
                return
            if link.is_symlink() and str(link.readlink()) == entry:
                return
            if os.path.lexists(link) and not (link.is_symlink() and is_name(str(link.readlink()))):
                msg = f"{link} is there and no link of ours; move it away, or call the pointer otherwise"
                raise StorageError(msg)
            new = self._make(TRASH) / uuid.uuid4().hex
            new.symlink_to(check_name(entry))  # relative to where it will be
            new.replace(link)
            files.sync_directory(self._root)

    @contextmanager
    def _scan(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        with files.failures(self._root, missing=FileNotFoundError), os.scandir(self._root) as scan:
            yield scan

    def location(self, entry: str) -> Path:
        """Return the directory of *entry*."""
        return self._root / entry

    def sweep(self) -> Sequence[str]:
        """Remove staging directories that no living process holds, and trash that was not taken out."""
        swept = []
        here = [folder for folder in (STAGING, TRASH) if self._is_here(folder)]
        for path in sorted(path for folder in here for path in self._root.glob(f"{folder}/*")):
            with suppress(OSError):  # another process may be sweeping too
                if time.time() - path.lstat().st_mtime < GRACE:
                    continue
                if path.is_symlink() or path.is_file():
                    path.unlink()
                elif files.is_abandoned(path):
                    shutil.rmtree(path)
                else:
                    continue
                swept.append(path.name)
        return swept

    def set_aside(self, entry: str) -> str:
        """Rename *entry* into the quarantine, where nobody looks for checkpoints and nothing is deleted."""
        target = self._root / QUARANTINE / f"{check_name(entry)}-{uuid.uuid4().hex[:8]}"
        with files.failures(target, missing=FileNotFoundError):
            self._make(QUARANTINE)
            (self._root / entry).rename(target)
            files.sync_directory(target.parent)
            files.sync_directory(self._root)
        return str(target)

    def note(self, line: bytes) -> None:
        """Append to `history.jsonl`, in one call, so that lines of several processes do not mix."""
        with files.failures(self._root / HISTORY):
            self._make(OWN)
            descriptor = files.open_plain(self._root / HISTORY, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                os.write(descriptor, line + b"\n")
            finally:
                os.close(descriptor)

    def notes(self, last: int | None = None) -> Sequence[bytes]:
        """Return the lines of `history.jsonl`, or the *last* ones; one that a dying process did not end is left out."""
        path = self._root / HISTORY
        with files.failures(path):
            if not path.exists():
                return ()
            with os.fdopen(files.open_plain(path), "rb") as file:
                if last is not None:
                    file.seek(max(0, file.seek(0, os.SEEK_END) - last * LONG_LINE))
                    if file.tell():
                        file.readline()  # the middle of one
                lines = file.read().split(b"\n")[:-1]
            return lines if last is None else lines[-last:]


class LocalStaging:
    """A directory beside the checkpoints, locked by the processes that write to it until it is renamed or removed."""

    def __init__(self, root: Path, path: Path, *, joined: bool = False) -> None:
        self._root = root
        self._path = path
        self._joined = joined
        if not joined:
            path.mkdir()
        try:
            self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            if not joined:
                path.rmdir()
            raise
        self._open = True

    @property
    def token(self) -> str:
        """The name of the directory."""
        return self._path.name

    def write(self, file: str, size: int, pieces: Iterable[Buffer]) -> str:
        """Reserve *size* bytes, write and hash them, and sync the file."""
        return files.write_durably(self._path / check_name(file), size, pieces)

    def link(self, file: str, entry: str) -> None:
        """Give the content that the committed *entry* has under the name *file* another name, here.

        Raises:
            StorageError: If it was written to since it was committed, or the file system gives it no more names.
        """
        target, source = self._path / check_name(file), self._root / check_name(entry)
        with files.failures(target):
            os.link(source / file, target, follow_symlinks=False)
            try:
                status = target.lstat()
                written = (source / MANIFEST).stat().st_mtime_ns
                changed = not stat.S_ISREG(status.st_mode) or status.st_mtime_ns > written  # a link leads elsewhere
            except OSError:  # another process may remove it at this moment
                target.unlink()
                raise
            if changed:
                target.unlink()
                msg = f"{source / file} was changed after it was committed"
                raise StorageError(msg)

    def commit(self, entry: str, manifest: bytes) -> None:
        """Write the manifest, then rename the directory to *entry*."""
        target = self._root / check_name(entry)
        with files.failures(target):
            (self._path / MANIFEST).unlink(missing_ok=True)  # that of another name, which was taken
            self.write(MANIFEST, len(manifest), [manifest])
            files.sync_directory(self._path)
            try:
                # A directory cannot be renamed over one that holds anything, which is why this overwrites nothing.
                self._path.rename(target)
            except OSError as error:
                if os.path.lexists(target):
                    msg = f"{target} is there already; a checkpoint is never overwritten"
                    raise EntryExistsError(msg) from error
                raise
            self._close()
            files.sync_directory(self._root)

    def discard(self) -> None:
        """Remove the directory, unless it was committed."""
        if self._open:
            self._close()
            if not self._joined:
                shutil.rmtree(self._path, ignore_errors=True)

    def _close(self) -> None:
        self._open = False
        os.close(self._lock)
