"""What is about to be published: every file of it found, and everything that is no plain file refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import attrs
import orjson

from mlc_registry.errors import SourceError
from mlc_registry.requirements import require_path, show

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Member", "Source", "read_source"]

QUOTES = "'\""
CHECKPOINT = "mlc-checkpoint/"
LARGEST_RECORD = 64 << 20  # bytes; a commit record is a few kilobytes


@attrs.frozen
class Member:
    """One file to publish: where it is, and where it goes."""

    path: str
    """Below the version's directory, with slashes."""
    origin: Path


@attrs.frozen
class Source:
    """All files to publish."""

    members: tuple[Member, ...]
    entry: str
    """The file's name if one file is published, or nothing for a directory."""
    empty: tuple[str, ...]
    """Directories below it that hold nothing, and so belong to no version: a version is its files."""
    is_checkpoint: bool
    """Whether it is a committed checkpoint, whose files nobody writes to again."""


def read_source(path: str | os.PathLike[str]) -> Source:
    """Find the files of *path*, a file or a directory; a link as *path* itself is followed.

    Raises:
        SourceError: If there is nothing to publish, or something that is neither a file nor a directory, or a link
            that leaves the directory.
    """
    require_path(path, "what to publish", error=SourceError)
    try:
        found = Path(path).resolve(strict=True)
    except (OSError, RuntimeError) as error:  # missing, or a circle of links
        msg = f"{show(str(path))} cannot be published: there is no such file or directory"
        raise SourceError(msg) from error
    if stat.S_ISREG(found.stat().st_mode):
        _check_text(found.name, found)
        return Source((Member(found.name, found),), entry=found.name, empty=(), is_checkpoint=False)
    if not found.is_dir():
        _refuse(found, "it is neither a file nor a directory")
    members = sorted(_walk(found, found), key=lambda one: one.path)
    if not members:
        _refuse(found, "it holds no files")
    empty = tuple(sorted(_find_empty(found)))
    return Source(tuple(members), entry="", empty=empty, is_checkpoint=_is_checkpoint(found))


def _walk(folder: Path, root: Path) -> Iterator[Member]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            _check_text(entry.name, path)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(path, root)
            else:
                origin = _follow(path, root) if entry.is_symlink() else path
                if not stat.S_ISREG(origin.stat().st_mode):
                    _refuse(path, "it is neither a file nor a directory")
                yield Member(path.relative_to(root).as_posix(), origin)


def _find_empty(root: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(root):
        if not folders and not names and parent != str(root):
            yield os.path.relpath(parent, root)


def _follow(link: Path, root: Path) -> Path:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        _refuse(link, "it is a link to nothing")
    if not target.is_relative_to(root):
        _refuse(link, f"it is a link out of the directory, to {target}; publish a copy of it")
    if target.is_dir():
        _refuse(link, f"it is a link to a directory; publish {target} itself")
    return target


def _check_text(name: str, path: Path) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        _refuse(path, "its name is not valid UTF-8")
    if any(one < " " or "\x7f" <= one < "\xa0" for one in name):
        _refuse(path, "its name holds control characters, which terminals obey; rename it")


def _is_checkpoint(folder: Path) -> bool:
    """Say whether *folder* is a committed checkpoint of MLC: its manifest says so."""
    manifest = folder / "manifest.json"
    try:
        if manifest.stat().st_size > LARGEST_RECORD:
            return False
        record = orjson.loads(manifest.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and str(record.get("format")).startswith(CHECKPOINT)


def _refuse(path: Path, why: str) -> NoReturn:
    msg = f"{show(os.fsencode(path).decode(errors='backslashreplace')).strip(QUOTES)} cannot be published: {why}"
    raise SourceError(msg)
