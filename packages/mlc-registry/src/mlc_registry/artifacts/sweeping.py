"""What publishers that were killed have left in a directory of artifacts: found, and removed."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlc_registry.errors import InvalidNameError, InvalidVersionError
from mlc_registry.names import SHORTENED, check_model
from mlc_registry.records import Leftover
from mlc_registry.semver.versions import Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import timedelta

    from mlc_registry.artifacts.staging import AtWork, Rooms

    Found = tuple[Leftover, Callable[[], object]]

__all__ = ["Sweep"]


class Sweep:
    """One look at the directory *root*, and what is to be swept there.

    The order decides: first what is there, then who is at work, then the rows. A directory that was there when we
    looked either belongs to a publisher that still holds its lock, or its row was committed before the rows were read,
    or it never will be.

    Args:
        root: The artifacts.
        rooms: Its rooms.
        published: Returns the directories of a model that rows name and whose files are to stay.
        older_than: What was touched more recently stays.
    """

    def __init__(
        self, root: Path, rooms: Rooms, published: Callable[[str], Iterable[str]], *, older_than: timedelta
    ) -> None:
        self._root = root
        self._rooms = rooms
        self._published = published
        self._latest = time.time() - older_than.total_seconds()
        self._staged: list[str] = []
        self._directories: dict[str, list[str]] = {}
        self._unknown: list[str] = []

    def run(self, *, dry_run: bool) -> tuple[Leftover, ...]:
        """Return what is left over, removed unless *dry_run*.

        Raises:
            StoreError: If nobody can tell who is at work.
            OSError: If the file system fails.
        """
        self._staged = self._rooms.names()
        self._look()
        at_work = self._rooms.look()
        found = [*self._find_staged(at_work), *self._find_directories(at_work)]
        if not dry_run:
            for _, remove in found:
                remove()
            for model in self._unknown:
                with suppress(OSError):  # something is in it; and who is about to use it makes it again
                    (self._root / model).rmdir()
        return tuple(leftover for leftover, _ in found)

    def _look(self) -> None:
        for model in _directories(self._root):
            if not _is_model(model):
                continue
            self._directories[model] = [name for name in _directories(self._root / model) if _is_version(name)]

    def _find_staged(self, at_work: AtWork) -> Iterator[Found]:
        for name in sorted({*self._staged, *at_work.abandoned} - at_work.rooms):
            place = self._rooms.path(name)
            if self._is_old(place) and self._is_old(place.with_name(f"{name}.lock")):
                yield self._tell("staging", place), partial(self._rooms.forget, name)

    def _find_directories(self, at_work: AtWork) -> Iterator[Found]:
        for model, names in self._directories.items():
            known = set(self._published(model))
            for name in names:
                directory, place = f"{model}/{name}", self._root / model / name
                if directory not in known | at_work.directories and self._is_old(place):
                    yield self._tell("unpublished", place), partial(self._rooms.take, place)
            if not known:
                self._unknown.append(model)

    def _is_old(self, place: Path) -> bool:
        try:
            status = place.lstat()
        except FileNotFoundError:
            return True
        return max(status.st_mtime, status.st_ctime) <= self._latest

    def _tell(self, kind: Literal["staging", "unpublished"], place: Path) -> Leftover:
        size = 0
        for parent, _, names in os.walk(place):
            for name in names:
                with suppress(OSError):
                    size += (Path(parent) / name).lstat().st_size
        return Leftover(kind=kind, place=place.relative_to(self._root).as_posix(), size=size)


def _directories(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _is_model(name: str) -> bool:
    try:
        check_model(name)
    except InvalidNameError:
        return False
    return True


def _is_version(name: str) -> bool:
    """Say whether `install` could have given this *name*; what somebody else has put there is theirs."""
    number = name.partition("~")[0]
    if len(number) == SHORTENED:
        return True
    try:
        Version.parse(number)
    except InvalidVersionError:
        return False
    return True
