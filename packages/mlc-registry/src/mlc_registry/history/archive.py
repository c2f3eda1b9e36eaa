"""A whole registry in one file: every fact with its number, the history with its digests, and every published file."""

from __future__ import annotations

import os
import re
import secrets
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from mlc_registry.artifacts.transfers import sync_directory
from mlc_registry.errors import ArchiveError, CorruptArtifactError, RegistryError, StoreError
from mlc_registry.history.chain import START
from mlc_registry.history.imports import Import
from mlc_registry.history.tars import Entry, HashingReader, add_file, read_entries
from mlc_registry.publishing import identify
from mlc_registry.records import Audited, File
from mlc_registry.requirements import require_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlc_registry.directories.view import View
    from mlc_registry.protocols import ArtifactStore, Rows, Store
    from mlc_registry.records import Row

__all__ = ["Archive"]

FORMAT = "mlc-registry-export/1"
HEADER = "registry.json"
TABLES = ("model", "version", "file", "stage", "tag", "change", "listener")
CONTENT = re.compile(r"files/([0-9a-f]{64})")
SPOOLED = 16 << 20
LARGEST_HEADER = 1 << 20


class Archive:
    """Moves a registry to another database, another machine, or a shelf."""

    def __init__(self, store: Store, artifacts: ArtifactStore, view: View | None = None) -> None:
        rows: Rows | None = getattr(store, "rows", None)
        if rows is None:
            msg = f"the content of {type(store).__name__} cannot be moved"
            raise StoreError(msg)
        self._store = store
        self._artifacts = artifacts
        self._view = view
        self._rows = rows

    def save(self, path: str | os.PathLike[str], *, replace: bool = False) -> Audited:
        """Write everything into the new file *path*, a tar; return what is in it.

        With *replace* a file that is there is replaced, at once and only by a whole export.

        It is verified on the way: what does not fit is not exported.

        Raises:
            ArchiveError: If there is something at *path*, or it cannot be written.
            AuditError, CorruptArtifactError: If the registry is not what its history says.
        """
        target = Path(require_path(path, "the export", error=ArchiveError)).absolute()
        try:
            return self._write(target, replace=replace)
        except RegistryError:
            raise
        except FileExistsError as error:
            msg = f"{target} is there already; export to another place, or replace it with replace=True (--replace)"
            raise ArchiveError(msg) from error
        except (OSError, ValueError) as error:
            msg = f"{str(target)!r} cannot be written: {getattr(error, 'strerror', None) or error}"
            raise ArchiveError(msg) from error

    def restore(self, path: str | os.PathLike[str]) -> Audited:
        """Fill this registry, which must be empty, with what `save` wrote to *path*; all of it, or nothing.

        Every file is hashed, and the history is verified before it counts.

        Raises:
            ArchiveError: If the file is no whole export, the registry is not empty, or another keeps its files in the
                same place.
            AuditError: If its history does not fit.
            StoreError: If the disk or the database fails.
        """
        source = Path(require_path(path, "the export", error=ArchiveError))
        if self._store.list_models():
            msg = "the registry is not empty; import into a new one"
            raise ArchiveError(msg)
        if self._artifacts.owners() - {identify(self._store)}:
            msg = f"{self._artifacts.url} holds files of another registry; give a directory of its own (--artifacts)"
            raise ArchiveError(msg)
        try:
            with closing(read_entries(source)) as entries:
                found = self._fill_from(source, entries)
        except tarfile.TarError as error:
            _refuse(source, str(error))
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            msg = f"nothing was imported, as a file could not be written: {error}"
            raise StoreError(msg) from error
        owner = identify(self._store)
        if owner is not None:
            self._artifacts.claim(owner)
        if self._view is not None:
            self._view.redraw()
        return found

    def _fill_from(self, source: Path, entries: Iterator[Entry]) -> Audited:
        head = _read_head(source, next(entries, None))
        tables: dict[str, list[Row]] = {}
        for name in TABLES:
            entry = next(entries, None)
            if entry is None or entry.name != f"tables/{name}.jsonl":
                _refuse(source, f"tables/{name}.jsonl is missing")
            tables[name] = [_parse(source, line) for line in entry.stream]
        with Import(source, self._artifacts, tables) as running:
            for entry in entries:
                match = CONTENT.fullmatch(entry.name)
                if match is None:
                    _refuse(source, f"{entry.name[:80]!r} does not belong there")
                running.take(f"sha256:{match[1]}", entry)
            running.install()
            found = self._rows.write(tables, head=head)
            running.keep()
        return found

    def _write(self, target: Path, *, replace: bool) -> Audited:
        if os.path.lexists(target) and not (replace and target.is_file()):
            raise FileExistsError(target)
        partial = target.with_name(f".mlc-export-{secrets.token_hex(8)}")
        try:
            with partial.open("xb") as stream:
                with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
                    found = self._fill(archive)
                stream.flush()
                os.fsync(stream.fileno())
            if replace:
                partial.replace(target)
            else:
                _place(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        sync_directory(target.parent)
        return found

    def _fill(self, archive: tarfile.TarFile) -> Audited:
        ledger = getattr(self._store, "ledger", None)
        assert ledger is not None  # a store that keeps rows keeps a ledger
        with self._rows.read() as read:
            tables = {name: list(read[name]) for name in TABLES}
        lines = tables["change"]
        head = str(lines[-1]["digest"]) if lines else START
        found = Audited(lines=len(lines), versions=len(tables["version"]), head=head)
        ledger.verify(expected_head=head)  # later than the rows were read, so that it knows of all of them
        header = {"format": FORMAT, "head": head, "lines": found.lines, "versions": found.versions}
        _add_bytes(archive, HEADER, [orjson.dumps(header)])
        for name, rows in tables.items():
            _add_bytes(archive, f"tables/{name}.jsonl", (orjson.dumps(row) + b"\n" for row in rows))
        places = {int(str(row["id"])): str(row["directory"]) for row in tables["version"] if not row["removed"]}
        wanted: dict[str, tuple[str, File]] = {}
        for row in tables["file"]:
            directory = places.get(int(str(row["version_id"])))
            if directory is None:  # removed, and so is the file, unless another version has it too
                continue
            one = File(str(row["path"]), int(str(row["size"])), str(row["digest"]))
            wanted.setdefault(one.digest, (directory, one))
        for directory, one in wanted.values():
            self._add_content(archive, directory, one)
        return found

    def _add_content(self, archive: tarfile.TarFile, directory: str, file: File) -> None:
        try:
            with self._artifacts.read(directory, file) as content:
                reader = HashingReader(content.stream)
                name = f"files/{file.digest.partition(':')[2]}"
                add_file(archive, name, content.size, reader, mode=content.mode)
                found = reader.digest
        except OSError as error:
            found = f"unreadable: {error.strerror or error}"
        if found != file.digest:
            place = f"{self._artifacts.url}/{directory}/{file.path}"
            msg = f"{place} is not what was published: it is {found}, not {file.digest}; nothing was exported"
            raise CorruptArtifactError(msg)


def _place(partial: Path, target: Path) -> None:
    """Give *partial* the name *target*, which nobody else may have taken meanwhile."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise
        partial.rename(target)


def _read_head(source: Path, entry: Entry | None) -> str:
    if entry is None or entry.name != HEADER or entry.size > LARGEST_HEADER:
        _refuse(source, f"it does not begin with {HEADER}")
    header: Any = _parse(source, entry.stream.read())
    if header.get("format") != FORMAT or not isinstance(header.get("head"), str):
        _refuse(source, f"its format is {header.get('format')!r}, not {FORMAT!r}; upgrade mlc-registry")
    return str(header["head"])


def _add_bytes(archive: tarfile.TarFile, name: str, pieces: Iterable[bytes]) -> None:
    with tempfile.SpooledTemporaryFile(SPOOLED) as stream:
        for piece in pieces:
            stream.write(piece)
        size = stream.tell()
        stream.seek(0)
        add_file(archive, name, size, stream)


def _parse(source: Path, text: bytes) -> Any:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        _refuse(source, f"it holds something that is no JSON: {error}")
    if not isinstance(found, dict):
        _refuse(source, "it holds JSON that is no object")
    return found


def _refuse(path: Path, why: str) -> NoReturn:
    msg = f"{path} is no export of a registry that could be imported: {why}"
    raise ArchiveError(msg)
