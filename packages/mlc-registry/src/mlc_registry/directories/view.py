"""Directories for people: each version of each model with all that is known about it, and links to its files."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlc_registry.directories.canvas import SHEET, Canvas
from mlc_registry.directories.sheets import describe_version, write_sheet
from mlc_registry.errors import CorruptArtifactError, StoreError
from mlc_registry.names import directory_name
from mlc_registry.publishing import identify
from mlc_registry.semver.ranges import Range
from mlc_registry.semver.versions import Version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from mlc_registry.protocols import ArtifactStore, Ledger, Store
    from mlc_registry.records import Line, ModelVersion, Stage

__all__ = ["View", "refuse_overlap"]

POSITION = ".position"
LATEST = "latest"
RELEASES = Range.parse("*").intervals
TOGETHER = 16
"""Lines that are drawn as one."""
AT_ONCE = 500
"""Lines of history that one change may catch up with: nobody who publishes is to wait for a registry to be drawn."""
PATIENCE, TURN = 5.0, 0.02
"""Seconds to wait for who draws, before all is drawn and before it is left to them."""
SHORTEST, LONGEST = 0.0005, 0.002
"""Seconds between two looks whether they have finished."""
PAGE = 500

log = logging.getLogger("mlc_registry")


class _BusyError(StoreError):
    """Somebody else is drawing."""


class View:
    """A directory that shows a registry. It is derived from the database, and nothing reads it.

    What it has not made stays, whoever has put it there, and a directory that shows another registry is left alone.
    It remembers up to which line of history it is drawn, so whoever comes next does what somebody who was killed has
    not done, and what was changed where the directory cannot be reached.
    """

    def __init__(self, root: Path, store: Store, artifacts: ArtifactStore) -> None:
        self._root = root
        self._store = store
        self._artifacts = artifacts
        self._canvas = Canvas(self._root)
        self._complained = False

    @property
    def root(self) -> Path:
        """The directory."""
        return self._root

    def refresh(self) -> None:
        """Show what was committed. Never raises: what fails is logged, and done by the next who refreshes.

        While somebody else draws, it is theirs: whoever has drawn looks once more for what was committed meanwhile.
        """
        ledger: Ledger | None = getattr(self._store, "ledger", None)
        if ledger is None:  # what changed cannot be told
            return
        with self._logged(), suppress(_BusyError):
            patience = TURN
            while True:
                with self._lock(patience) as position:
                    drawn = self._catch_up(ledger, position)
                if drawn in {None, ledger.read_head()[0]}:
                    break
                patience = 0
                time.sleep(LONGEST + SHORTEST)  # somebody who waits takes over, so that nobody draws for all others
            self._canvas.refuse_strangers()

    def redraw(self) -> None:
        """Do as `rebuild` does, but log what fails."""
        with self._logged():
            self.rebuild()

    def rebuild(self) -> int:
        """Draw all of it anew, remove what does not belong, and return how many versions there are.

        Raises:
            StoreError: If the directory holds something else, or cannot be written.
        """
        try:
            with self._lock(PATIENCE) as position:
                count = self._draw_all(position)
                self._canvas.refuse_strangers()
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            msg = f"the directories in {self._root} could not be made: {error}"
            raise StoreError(msg) from error
        self.refresh()  # what was committed meanwhile was left to us
        return count

    @contextmanager
    def _logged(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # what this is about is committed, whatever becomes of its picture
            level = logging.DEBUG if self._complained else logging.WARNING
            log.log(level, "the directories in %s are not up to date: %s", self._root, error)
            self._complained = True

    # ------------------------------------------------------------------ one at a time

    @contextmanager
    def _lock(self, patience: float) -> Iterator[_Position]:
        """Keep every other process from drawing; whoever dies lets go."""
        deadline, pause = time.monotonic() + patience, SHORTEST
        while True:
            self._claim()
            handle = os.open(self._root / POSITION, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_nlink:  # or somebody has removed it all meanwhile
                    position = _Position(handle, identify(self._store) or "")
                    self._refuse_stranger(position)
                    yield position
                    return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    msg = f"somebody else has been drawing {self._root} for more than {patience:g} seconds"
                    raise _BusyError(msg) from None
                time.sleep(pause)
                pause = min(2 * pause, LONGEST)
            finally:
                os.close(handle)

    def _refuse_stranger(self, position: _Position) -> None:
        drawn = position.read()[2]
        if drawn and position.owner and drawn != position.owner:
            msg = f"{self._root} shows another registry; give a directory of its own with view=DIRECTORY (--view)"
            raise StoreError(msg)

    def _claim(self) -> None:
        if (self._root / POSITION).exists():
            return
        self._root.mkdir(parents=True, exist_ok=True)
        if any(one.name != POSITION for one in self._root.iterdir()) and not (self._root / POSITION).exists():
            msg = f"{self._root} holds something else; give a directory of its own with view=DIRECTORY (--view)"
            raise StoreError(msg)

    # ------------------------------------------------------------------ drawing

    def _catch_up(self, ledger: Ledger, position: _Position) -> int | None:
        """Draw what was committed since *position*; return the last line's number, or None if that is too much."""
        number, digest, _ = position.read()
        lines = ledger.read_lines(after=max(number - 1, 0), limit=AT_ONCE + 1)
        if number and (not lines or (lines[0].number, lines[0].digest) != (number, digest)):
            self._canvas.remove_others(set())  # this was drawn from another history, as before a backup was restored
            number, lines = 0, ledger.read_lines(limit=AT_ONCE + 1)
        elif number:
            lines = lines[1:]
        lines = lines[:AT_ONCE]
        for start in range(0, len(lines), TOGETHER):
            some = lines[start : start + TOGETHER]
            self._draw_lines(some)
            position.write(some[-1])  # so that whoever is killed has come further all the same
            number = some[-1].number
        if len(lines) == AT_ONCE:
            log.warning("the directories in %s are behind; mlc registry rebuild brings them up to date", self._root)
            return None
        return number

    def _draw_lines(self, lines: Sequence[Line]) -> None:
        touched: dict[str, set[str]] = {}
        moved: dict[str, set[str]] = {}
        for one in lines:
            if one.model:
                touched.setdefault(one.model, set()).update(filter(None, (one.before, one.after)))
                moved.setdefault(one.model, set()).update([one.stage] if one.kind == "demoted" else [])
        for model, versions in touched.items():
            stages = self._store.list_stages(model)
            for text in versions:
                found = self._store.find(model, Version.parse(text))
                if found is not None:
                    self._draw_version(found, stages)
            self._draw_links(model, stages, demoted=moved[model])

    def _draw_all(self, position: _Position) -> int:
        ledger: Ledger | None = getattr(self._store, "ledger", None)
        last = ledger.read_head() if ledger is not None else (0, "")
        count = 0
        models = self._store.list_models()
        for model in models:
            stages = self._store.list_stages(model.name)
            names: set[str] = set()
            below: Version | None = None
            while found := self._store.list_versions(model.name, limit=PAGE, below=below):
                names.update(self._draw_version(one, stages) for one in found)
                below = found[-1].version
                count += len(found)
            names |= self._draw_links(model.name, stages)
            self._canvas.remove_others_of(model.name, names)
        self._canvas.remove_others({one.name for one in models})
        position.write_text(*last)
        return count

    def _draw_version(self, published: ModelVersion, stages: Sequence[Stage]) -> str:
        name = directory_name(published.version)
        files = self._store.list_files(published.model, published.version)
        links = self._find_links(published, {one.path.partition("/")[0] for one in files})
        sheet = write_sheet(describe_version(self._store, published, files, stages))
        self._canvas.draw_version(published.model, name, sheet, links)
        return name

    def _find_links(self, published: ModelVersion, entries: set[str]) -> dict[str, str]:
        if published.removed:
            return {}
        try:
            place = self._artifacts.place(published)
        except CorruptArtifactError:  # the database leads out of the store: there is nothing to be shown
            return {}
        above = self._canvas.lead_to(place.parent if published.entry else place)
        links: dict[str, str] = {}
        for entry in sorted(entries):
            name = entry
            while name == SHEET or name in links or (name != entry and name in entries):
                name = f"published-{name}"
            links[name] = f"{above}/{entry}"
        return links

    def _draw_links(self, model: str, stages: Sequence[Stage], *, demoted: Collection[str] = ()) -> set[str]:
        wanted = {one.name: directory_name(one.version) for one in stages}
        latest = self._store.highest(model, RELEASES)
        if latest is not None:
            wanted[LATEST] = directory_name(latest.version)
        self._canvas.draw_links(model, wanted, gone=sorted({LATEST, *demoted} - wanted.keys()))
        return set(wanted)


class _Position:
    """The line up to which everything is drawn, in a file that is locked."""

    def __init__(self, handle: int, owner: str) -> None:
        self._handle = handle
        self.owner = owner
        """Which registry it is that draws, or nothing if its store does not know."""

    def read(self) -> tuple[int, str, str]:
        """Return the line's number and digest and whose it is; 0 where there is none, or somebody was killed."""
        content = os.pread(self._handle, 400, 0).decode(errors="replace")
        number, digest, owner = (*content.rstrip("\n").split(" "), "", "", "")[:3]
        if not content.endswith("\n") or not digest or not number.isascii() or not number.isdigit():
            return 0, "", ""
        return int(number), digest, owner

    def write(self, line: Line) -> None:
        """Remember *line*."""
        self.write_text(line.number, line.digest)

    def write_text(self, number: int, digest: str) -> None:
        """Remember a line by its number and digest."""
        content = f"{number} {digest} {self.owner}\n".encode()
        os.pwrite(self._handle, content, 0)
        os.ftruncate(self._handle, len(content))


def refuse_overlap(view: str | os.PathLike[str], artifacts: str, home: Path | None) -> None:
    """Refuse a *view* that holds the *artifacts* or the database in *home*, or lies among the artifacts.

    Raises:
        StoreError: Names both.
    """
    shown, files = Path(os.path.realpath(view)), artifacts.removeprefix("file://")
    taken = [home.resolve()] if home is not None and home.resolve().is_relative_to(shown) else []
    if "://" not in files:
        place = Path(os.path.realpath(files))
        if place.is_relative_to(shown) or shown.is_relative_to(place):
            taken.append(place)
    if taken:
        msg = (
            f"the directories for people in {view} would be mixed with {taken[0]}; give another view=DIRECTORY (--view)"
        )
        raise StoreError(msg)
