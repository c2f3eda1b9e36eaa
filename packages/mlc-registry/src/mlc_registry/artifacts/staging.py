"""Directories for what is on its way, each held by its publisher with a lock that ends when the publisher does."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import attrs

from mlc_registry.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["STAGING", "AtWork", "Rooms"]

STAGING = ".staging"
LOCK = ".lock"
# What a file system answers that has no locks: publishing goes on there, and nothing is swept.
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
ATTEMPTS = 100


@attrs.frozen
class AtWork:
    """What belongs to publishers that are alive."""

    rooms: frozenset[str]
    """Names of rooms."""
    directories: frozenset[str]
    """Directories of versions that were put in place, or are about to be."""
    abandoned: tuple[str, ...]
    """Names of rooms whose lock nobody holds."""


class Rooms:
    """Rooms in the directory `.staging` of *root*.

    A room is a directory with a lock file beside it. Its publisher makes the lock file, locks it, then makes the
    directory, and removes them in the other order; before it moves something out of the room, it writes the target into
    the lock file. So whoever sees a directory and then looks at the locks knows whether its publisher lives, whatever
    the clocks say.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / STAGING

    @contextmanager
    def open(self) -> Iterator[Path]:
        """Make an empty directory, until the context ends.

        Raises:
            OSError: If the file system fails.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        name, descriptor = self._hold()
        room = self._folder / name
        try:
            room.mkdir()
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)  # once installed, nothing is left of it
            with suppress(OSError):
                self._lock_of(name).unlink()
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing does not free it while a forked child has it open
            os.close(descriptor)

    def announce(self, folder: Path, directory: str) -> None:
        """Say that *folder*, a room or something in one, is about to become *directory*."""
        name = folder.relative_to(self._folder).parts[0]
        descriptor = os.open(self._lock_of(name), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, f"{directory}\n".encode())
        finally:
            os.close(descriptor)

    def take(self, path: Path) -> None:
        """Remove the directory *path*: out of sight in one step, so that nobody sees half of it.

        Raises:
            OSError: If it cannot be moved, or if some of it is left, which is for sweepers then.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = secrets.token_hex(16)
            path.rename(self._folder / name)
        except FileNotFoundError:
            return
        shutil.rmtree(self._folder / name, ignore_errors=True)
        if (self._folder / name).exists():
            raise OSError(errno.EACCES, f"files of it are left in {self._folder / name}, for sweep to remove")

    def names(self) -> list[str]:
        """Return the names of all directories; to be asked before `look`."""
        try:
            with os.scandir(self._folder) as entries:
                return sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def path(self, name: str) -> Path:
        """Return where a room is."""
        return self._folder / name

    def look(self) -> AtWork:
        """Return what belongs to the living.

        Raises:
            StoreError: If this file system has no locks, so that nobody can tell.
        """
        rooms, directories, abandoned = set(), set(), []
        for lock in sorted(self._folder.glob(f"*{LOCK}")):
            name = lock.name.removesuffix(LOCK)
            with suppress(FileNotFoundError):
                if self._is_held(lock):
                    rooms.add(name)
                    directories.update(lock.read_text(encoding="utf-8").splitlines())
                else:
                    abandoned.append(name)
        return AtWork(frozenset(rooms), frozenset(directories), tuple(abandoned))

    def forget(self, name: str) -> None:
        """Remove the room *name* and its lock, if still nobody holds that."""
        lock = self._lock_of(name)
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # the lock goes last, so nobody lives there
            shutil.rmtree(self._folder / name, ignore_errors=True)
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self._folder / name, ignore_errors=True)
            lock.unlink(missing_ok=True)
        except BlockingIOError:
            pass  # another sweeper is at it
        finally:
            os.close(descriptor)

    def _hold(self) -> tuple[str, int]:
        for _ in range(ATTEMPTS):
            name = secrets.token_hex(16)
            descriptor = os.open(self._lock_of(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in NO_LOCKS:
                    return name, descriptor
                os.close(descriptor)
                if not isinstance(error, BlockingIOError):
                    raise
                continue  # a sweeper was quicker, and is about to remove the file
            if os.fstat(descriptor).st_nlink:
                return name, descriptor
            os.close(descriptor)  # a sweeper has come and gone
        msg = f"no lock could be had in {self._folder} {ATTEMPTS} times: something removes or locks every file there"
        raise StoreError(msg)

    def _is_held(self, lock: Path) -> bool:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            msg = f"{lock} cannot be locked ({error.strerror}), so nobody can tell who is at work; nothing was swept"
            raise StoreError(msg) from error
        finally:
            os.close(descriptor)
        return False

    def _lock_of(self, name: str) -> Path:
        return self._folder / f"{name}{LOCK}"
