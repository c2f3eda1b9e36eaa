"""A whole registry in one file: every fact with its number, the history with its digests, and every published file."""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from mlc_registry.errors import ArchiveError, CorruptArtifactError, StoreError
from mlc_registry.imports import Import
from mlc_registry.publishing import link_latest
from mlc_registry.tars import Entry, HashingReader, add_file, read_entries
from mlc_registry.transfers import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlc_registry.artifacts import Artifacts
    from mlc_registry.protocols import Rows, Store
    from mlc_registry.records import Audited, Row

__all__ = ["Archive"]

FORMAT = "mlc-registry-export/1"
HEADER = "registry.json"
TABLES = ("model", "version", "file", "stage", "change", "listener")
CONTENT = re.compile(r"files/([0-9a-f]{64})")
SPOOLED = 16 << 20
LARGEST_HEADER = 1 << 20


class Archive:
    """Moves a registry to another database, another machine, or a shelf."""

    def __init__(self, store: Store, artifacts: Artifacts) -> None:
        rows: Rows | None = getattr(store, "rows", None)
        if rows is None:
            msg = f"the content of {type(store).__name__} cannot be moved"
            raise StoreError(msg)
        self._store = store
        self._artifacts = artifacts
        self._rows = rows

    def save(self, path: str | os.PathLike[str]) -> Audited:
        """Write everything into the new file *path*, a tar; return what is in it.

        It is verified on the way: what does not fit is not exported.

        Raises:
            ArchiveError: If there is something at *path*, or it cannot be written.
            AuditError, CorruptArtifactError: If the registry is not what its history says.
        """
        target = Path(path).absolute()
        partial = target.with_name(f".{target.name}.partial")
        if target.exists():
            msg = f"{target} is there already; export to another place"
            raise ArchiveError(msg)
        try:
            with partial.open("wb") as stream:
                with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
                    found = self._fill(archive)
                stream.flush()
                os.fsync(stream.fileno())
            partial.rename(target)
            sync_directory(target.parent)
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            msg = f"{target} cannot be written: {error.strerror or error}"
            raise ArchiveError(msg) from error
        finally:
            partial.unlink(missing_ok=True)
        return found

    def restore(self, path: str | os.PathLike[str]) -> Audited:
        """Fill this registry, which must be empty, with what `save` wrote to *path*; all of it, or nothing.

        Every file is hashed, and the history is verified before it counts.

        Raises:
            ArchiveError: If the file is no whole export, or the registry is not empty.
            AuditError: If its history does not fit.
            StoreError: If the disk or the database fails.
        """
        source = Path(path)
        if self._store.list_models():
            msg = "the registry is not empty; import into a new one"
            raise ArchiveError(msg)
        try:
            with closing(read_entries(source)) as entries:
                found, models = self._fill_from(source, entries)
        except tarfile.TarError as error:
            _refuse(source, str(error))
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            msg = f"nothing was imported, as a file could not be written: {error}"
            raise StoreError(msg) from error
        for name in models:
            link_latest(self._store, self._artifacts, name)
        return found

    def _fill_from(self, source: Path, entries: Iterator[Entry]) -> tuple[Audited, list[str]]:
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
        return found, [str(row["name"]) for row in tables["model"]]

    def _fill(self, archive: tarfile.TarFile) -> Audited:
        ledger = getattr(self._store, "ledger", None)
        assert ledger is not None  # a store that keeps rows keeps a ledger
        found: Audited = ledger.verify()
        header = {"format": FORMAT, "head": found.head, "lines": found.lines, "versions": found.versions}
        _add_bytes(archive, HEADER, [orjson.dumps(header)])
        places: dict[int, str] = {}
        wanted: dict[str, Path] = {}
        with self._rows.read() as tables:
            for name in TABLES:
                rows = list(tables[name])
                _add_bytes(archive, f"tables/{name}.jsonl", (orjson.dumps(row) + b"\n" for row in rows))
                if name == "version":
                    places = {int(str(row["id"])): str(row["directory"]) for row in rows}
                if name == "file":
                    for row in rows:
                        directory = places[int(str(row["version_id"]))]
                        wanted.setdefault(str(row["digest"]), self._artifacts.path(directory, str(row["path"])))
        for digest, place in wanted.items():
            _add_content(archive, digest, place)
        return found


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


def _add_content(archive: tarfile.TarFile, digest: str, place: Path) -> None:
    try:
        with place.open("rb") as stream:
            facts = os.fstat(stream.fileno())
            reader = HashingReader(stream)
            add_file(archive, f"files/{digest.partition(':')[2]}", facts.st_size, reader, mode=facts.st_mode & 0o555)
            found = reader.digest
    except OSError as error:
        found = f"unreadable: {error.strerror or error}"
    if found != digest:
        msg = f"{place} is not what was published: it is {found}, not {digest}; nothing was exported"
        raise CorruptArtifactError(msg)


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
