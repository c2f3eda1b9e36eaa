"""Files on their way from an export into the artifact store: hashed, placed, and taken back unless all goes well."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from mlc_registry.artifacts.transfers import sync_directory
from mlc_registry.errors import ArchiveError, InvalidNameError, InvalidVersionError, StoreError
from mlc_registry.history.tars import HashingReader
from mlc_registry.names import check_model, directory_name
from mlc_registry.semver.versions import Version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from mlc_registry.history.tars import Entry
    from mlc_registry.protocols import ArtifactStore
    from mlc_registry.records import Row

__all__ = ["Import"]

PIECE = 1 << 20
NUMBERS = (("model", "id"), ("version", "id"), ("version", "model_id"), ("file", "version_id"))
"""By what rows are found here; anything may be in their place."""


class Import:
    """The files that the rows of *tables* name, from the export *source* into *artifacts*.

    Raises:
        ArchiveError: If the rows name places where no file may go.
    """

    def __init__(self, source: Path, artifacts: ArtifactStore, tables: Mapping[str, Sequence[Row]]) -> None:
        self._source = source
        self._artifacts = artifacts
        self._versions = tables["version"]
        for name, key in NUMBERS:
            for row in tables[name]:
                if type(row.get(key)) is not int:
                    self._refuse(f"a row of {name} has {str(row.get(key))[:80]!r} as its {key}")
        self._sizes: dict[str, int] = {}
        self._files: dict[object, list[tuple[str, str]]] = {}
        self._names = {row.get("id"): self._check_name(row) for row in tables["model"]}
        self._numbers = {row.get("id"): self._check_version(row) for row in self._versions}
        self._removed = {row.get("id") for row in self._versions if row.get("removed") is True}
        for row in tables["file"]:
            self._note(row)
        self._taken: set[str] = set()
        self._installed: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Make room."""
        self._folder = self._stack.enter_context(self._artifacts.room())
        (self._folder / "content").mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, StoreError):  # a commit that failed may have succeeded
            for directory in self._installed:
                self._artifacts.discard(directory)
        self._stack.close()

    def take(self, digest: str, entry: Entry) -> None:
        """Keep the file *entry*, which must be wanted, and be what *digest* says.

        Raises:
            ArchiveError: If it is not.
        """
        if self._sizes.get(digest) != entry.size:
            self._refuse(f"{entry.name} is of no version")
        reader = HashingReader(entry.stream)
        with self._content(digest).open("xb") as copy:
            while piece := reader.read(PIECE):
                copy.write(piece)
            os.fchmod(copy.fileno(), (entry.mode | 0o400) & 0o555)
            copy.flush()
            os.fsync(copy.fileno())
        if reader.digest != digest:
            self._refuse(f"{entry.name} has other content: {reader.digest}")
        self._taken.add(digest)

    def install(self) -> None:
        """Put every version's files in place, and write into its row where that is.

        Raises:
            ArchiveError: If a file is missing.
        """
        missing = self._sizes.keys() - self._taken
        if missing:
            self._refuse(f"{len(missing)} files are missing, {min(missing)} among them")
        for row in self._versions:
            model, number = self._names[row["model_id"]], self._numbers[row["id"]]
            if row["id"] in self._removed:  # a place that stays empty
                row["directory"] = f"{model}/{directory_name(number)}"
                continue
            folder = self._folder / "version"
            folder.mkdir()
            for path, digest in self._files.get(row["id"], ()):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                self._link(digest, target)
            for parent, _, _ in os.walk(folder):
                sync_directory(Path(parent))
            row["directory"] = self._artifacts.install_folder(folder, model, number)
            self._installed.append(str(row["directory"]))

    def keep(self) -> None:
        """Let everything stay where it is."""
        self._installed.clear()

    def _link(self, digest: str, target: Path) -> None:
        try:
            os.link(self._content(digest), target)  # read-only, all of them
        except FileExistsError:
            self._refuse(f"two files go to {target.name}")
        except OSError:  # too many links, or a file system without any
            shutil.copy(self._content(digest), target)

    def _content(self, digest: str) -> Path:
        return self._folder / "content" / digest.partition(":")[2]

    def _check_name(self, row: Row) -> str:
        try:
            return check_model(str(row.get("name")))
        except InvalidNameError as error:
            self._refuse(str(error))

    def _check_version(self, row: Row) -> Version:
        entry = row.get("entry")
        if row.get("model_id") not in self._names or not (entry == "" or _is_plain(entry)):
            self._refuse(f"a version has no model, or is at {str(entry)[:80]!r}")
        try:
            return Version.parse(str(row.get("version")))
        except InvalidVersionError as error:
            self._refuse(str(error))

    def _note(self, row: Row) -> None:
        path, size, digest = row.get("path"), row.get("size"), row.get("digest")
        if not _is_plain(path):
            self._refuse(f"a file would go to {str(path)[:80]!r}")
        if (
            not isinstance(size, int)
            or row.get("version_id") not in self._numbers
            or self._sizes.get(str(digest), size) != size
        ):
            self._refuse(f"the file {str(path)[:80]!r} has no size, no version, or two sizes")
        if row["version_id"] in self._removed:
            return
        self._sizes[str(digest)] = size
        self._files.setdefault(row["version_id"], []).append((str(path), str(digest)))

    def _refuse(self, why: str) -> NoReturn:
        msg = f"{self._source} is no export of a registry that could be imported: {why}"
        raise ArchiveError(msg)


def _is_plain(path: object) -> bool:
    """Say whether *path* stays below where it is put, in one spelling only."""
    if not isinstance(path, str) or not path or "\0" in path:
        return False
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts and str(parts) == path and path != "."
