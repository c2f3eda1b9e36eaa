"""What is drawn into the directories for people: sheets and links, each in one step, beside what others put there."""

# A publisher waits for this, and paths that are objects took a third of the time.
# ruff: noqa: PTH102, PTH103, PTH105, PTH106, PTH108, PTH112, PTH114, PTH115, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from mlc_registry.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SHEET", "Canvas"]

FRESH = ".fresh"  # in the view's own directory, where no published file can have that name
SHEET = "metadata.json"


class Canvas:
    """The directory *root*, in which one process at a time draws.

    What somebody else has put where something is to be drawn stays as it is, and `refuse_strangers` tells of it.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._fresh = f"{self._root}/{FRESH}"
        self._strangers: list[str] = []
        self._led: dict[str, str] = {}

    def lead_to(self, place: Path) -> str:
        """Return what a link in the directory of a version has to say to lead to *place*."""
        above, name = os.path.split(place)
        if above not in self._led:  # only of the model that was drawn last: each takes dozens of calls
            self._led = {above: os.path.relpath(os.path.realpath(above), os.path.realpath(self._root))}
        return f"../../{self._led[above]}/{name}"

    def draw_version(self, model: str, name: str, sheet: bytes, links: Mapping[str, str]) -> None:
        """Draw the directory *name* of *model*: its *sheet*, and *links* by name."""
        folder = f"{self._root}/{model}/{name}"
        if not _make_folder(folder) and not _is_ours(folder, model, links):
            self._strangers.append(folder)
            return
        self._clear()
        with open(self._fresh, "xb") as stream:
            stream.write(sheet)
        os.replace(self._fresh, f"{folder}/{SHEET}")
        there = os.listdir(folder)
        for entry, target in links.items():
            self._point(f"{folder}/{entry}", target)
        for entry in there:
            if entry not in links and os.path.islink(f"{folder}/{entry}"):  # what is no link is not ours
                os.unlink(f"{folder}/{entry}")

    def draw_links(self, model: str, links: Mapping[str, str], *, gone: Iterable[str]) -> None:
        """Draw *links* by name beside the versions of *model*, and remove those that are *gone*."""
        folder = f"{self._root}/{model}"
        for name in gone:
            if os.path.islink(f"{folder}/{name}"):
                os.unlink(f"{folder}/{name}")
        for name, target in links.items():
            self._point(f"{folder}/{name}", target)

    def remove_others_of(self, model: str, names: set[str]) -> None:
        """Remove what was drawn of *model*, but for *names*."""
        folder = f"{self._root}/{model}"
        for one in os.scandir(folder) if os.path.isdir(folder) else ():
            if one.name in names:
                continue
            if one.is_dir(follow_symlinks=False):
                _remove_version(Path(one.path))
            elif one.is_symlink() and "/" not in str(Path(one.path).readlink()):
                Path(one.path).unlink()

    def remove_others(self, names: set[str]) -> None:
        """Remove what was drawn of models, but for those of *names*."""
        for one in os.scandir(self._root):
            if one.name not in names and one.is_dir(follow_symlinks=False):
                self.remove_others_of(one.name, set())
                with suppress(OSError):  # somebody has put something there
                    Path(one.path).rmdir()

    def refuse_strangers(self) -> None:
        """Tell of all that was in the way since this was asked last.

        Raises:
            StoreError: If something was; names all of it.
        """
        if self._strangers:
            places, self._strangers = ", ".join(sorted(self._strangers)), []
            msg = (
                f"somebody else has put something at {places}; it was left alone and everything else is drawn. "
                "Move it away and run mlc registry rebuild"
            )
            raise StoreError(msg)

    def _point(self, link: str, target: str) -> None:
        try:
            if os.readlink(link) == target:
                return
        except FileNotFoundError:
            pass
        except OSError:  # it is no link, so it is not ours; an empty directory is nobody's
            try:
                os.rmdir(link)
            except OSError:
                self._strangers.append(link)
                return
        self._clear()
        os.symlink(target, self._fresh)
        os.replace(self._fresh, link)

    def _clear(self) -> None:
        """Remove what who was killed may have left: it may be a link, and nothing is written through that."""
        with suppress(FileNotFoundError):
            os.unlink(self._fresh)


def _make_folder(folder: str) -> bool:
    """Make *folder*, and return whether it was not there. A link in its place is ours, and goes."""
    above = os.path.dirname(folder)
    if os.path.islink(above):
        os.unlink(above)
    try:
        os.mkdir(folder)
    except FileNotFoundError:
        os.makedirs(folder)
    except (FileExistsError, NotADirectoryError):
        if not os.path.islink(folder):
            return False
        os.unlink(folder)
        os.mkdir(folder)
    return True


def _is_ours(folder: str, model: str, links: Mapping[str, str]) -> bool:
    """Say whether *folder* was drawn: it is empty, or one of *links* is there, or a sheet about *model*."""
    if not os.path.isdir(folder):
        return False
    entries = os.listdir(folder)
    for entry in entries:
        with suppress(OSError):
            if entry in links and os.readlink(f"{folder}/{entry}") == links[entry]:
                return True
    return not entries or _is_sheet(Path(folder, SHEET), model)


def _is_sheet(path: Path, model: str) -> bool:
    """Say whether the file *path* is a sheet about a version of *model*."""
    try:
        found: Any = None if path.is_symlink() else orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("model") == model and {"version", "digest", "files"} <= found.keys()


def _remove_version(folder: Path) -> None:
    """Remove what was drawn of a version, and its directory unless somebody has put something there."""
    if _is_sheet(folder / SHEET, folder.parent.name):
        for one in os.scandir(folder):
            if one.is_symlink():
                Path(one.path).unlink()
        (folder / SHEET).unlink()
    with suppress(OSError):
        folder.rmdir()
