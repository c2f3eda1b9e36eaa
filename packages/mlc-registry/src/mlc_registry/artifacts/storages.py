"""The files of published versions in any storage of mlc-core: the only room that knows mlc-core.

A version is one entry, `net@1.2.0`, with the files of the version and a manifest, the commit record that its storage
writes last. Files keep their names where every storage takes them, and go by a digest of their path where not.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import attrs

from mlc_core.catalogs import open_storage
from mlc_core.errors import ConfigurationError, EntryExistsError, StorageError
from mlc_core.naming import MANIFEST, is_name
from mlc_hooks import MlcError
from mlc_registry.artifacts.cache import Cache, Wanted, find_cache
from mlc_registry.artifacts.entries import View, decode_manifest, encode_manifest, entry_name
from mlc_registry.artifacts.local import Staged, Transfer, refuse_place
from mlc_registry.artifacts.sources import read_source
from mlc_registry.errors import CorruptArtifactError, RegistryError, SourceError, StoreError
from mlc_registry.history.addresses import hide_secrets
from mlc_registry.records import Content, File, Leftover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import timedelta

    from mlc_core.protocols import Staging, Storage
    from mlc_registry.artifacts.sources import Member, Source
    from mlc_registry.records import ModelVersion
    from mlc_registry.semver.versions import Version

__all__ = ["StorageArtifacts", "Upload"]

OWNER = b"mlc-registry artifacts of "
PIECE = 4 << 20
PLAIN = 0o444

log = logging.getLogger("mlc_registry")


@attrs.frozen(kw_only=True)
class Upload(Staged):
    """Files that the storage has and nobody sees yet."""

    staging: Staging
    modes: dict[str, int]
    held: ExitStack
    """What is held until the row is committed."""


class StorageArtifacts:
    """The artifacts of one registry in *storage*, which holds nothing else; fetched into *cache*."""

    def __init__(self, storage: Storage, cache: Cache) -> None:
        self._storage = storage
        self._cache = cache
        self._here = threading.local()
        self._claimed: set[str] = set()

    @classmethod
    def open(cls, url: str) -> StorageArtifacts:
        """Open the storage at *url*, with the cache of this machine.

        Raises:
            UnknownNameError: If no plugin offers the URL's scheme.
            StoreError: If it cannot be opened.
        """
        with _failures(url):
            return cls(open_storage(url), Cache(find_cache()))

    @property
    def url(self) -> str:
        """The address of the storage."""
        return hide_secrets(self._storage.url)

    # ------------------------------------------------------------------ publishing

    @contextmanager
    def stage(self, source: Source, transfer: Transfer) -> Iterator[Staged]:
        """Upload the files of *source*, hashed on the way; they are always copied.

        Raises:
            SourceError: If a file cannot be read, or changes while it is.
            StoreError: If the storage fails.
        """
        if transfer not in get_args(Transfer):
            msg = f"transfer={transfer!r} must be one of: {', '.join(get_args(Transfer))}"
            raise SourceError(msg)
        with self._uploaded(source) as upload:
            yield upload

    def install(self, staged: Staged, model: str, version: Version) -> str:
        """Commit the upload, and keep sweepers out until the context of `stage` ends: its row comes next.

        Raises:
            StoreError: If the storage fails.
        """
        assert isinstance(staged, Upload)
        with _failures(self.url):
            staged.held.enter_context(self._alone())
            manifest = encode_manifest(model, version, staged.files, modes=staged.modes, stored=_stored_name)
            base = name = entry_name(model, version)
            while True:
                try:
                    staged.staging.commit(name, manifest)
                except EntryExistsError:
                    name = f"{base}={secrets.token_hex(4)}"
                else:
                    return name

    @contextmanager
    def room(self) -> Iterator[Path]:
        """Make an empty directory for temporary files; nobody sweeps or publishes until the context ends.

        Raises:
            StoreError: If there is no room, or the storage fails.
        """
        with ExitStack() as stack:
            with _failures(self.url):
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mlc-registry-"))
                stack.enter_context(self._alone())
            yield Path(folder)

    def install_folder(self, folder: Path, model: str, version: Version) -> str:
        """Upload and commit a *folder* in a `room`, and remove it there.

        Raises:
            StoreError: If the storage fails.
        """
        with self._uploaded(read_source(folder)) as upload:
            directory = self.install(upload, model, version)
        shutil.rmtree(folder)
        return directory

    def repair(self, staged: Staged, published: ModelVersion) -> Sequence[str]:
        """Put the *staged* files in the place of those of *published*, if these are not what was; say what was not.

        An entry cannot be written to, so it is missing for a moment, as long as it takes to commit the other.

        Raises:
            StoreError: If the storage fails.
        """
        assert isinstance(staged, Upload)
        damage = self.find_damage(published.directory, staged.files)
        if damage:
            manifest = encode_manifest(
                published.model, published.version, staged.files, modes=staged.modes, stored=_stored_name
            )
            with _failures(self.url, so="it was not put right"), self._alone():
                with suppress(FileNotFoundError):
                    self._storage.remove(published.directory)
                staged.staging.commit(published.directory, manifest)
        return damage

    def discard(self, directory: str) -> str:
        """Remove an entry that no row names, or no longer; return why it is still there, if it is."""
        try:
            self._storage.remove(_check(directory))
        except (MlcError, OSError) as error:
            return f"{self.url}/{directory} could not be removed: {error}"
        return ""

    # ------------------------------------------------------------------ reading

    def place(self, published: ModelVersion) -> Path:
        """Return where the cache has the file or directory of *published*, or will have it.

        Raises:
            CorruptArtifactError: If that would be outside of the cache.
        """
        return self._cache.place(published.digest, published.entry)

    def fetch(self, published: ModelVersion, list_files: Callable[[], Sequence[File]], *, verify: bool) -> Path:
        """Return the file or directory of *published* in the cache, downloaded if need be.

        Raises:
            CorruptArtifactError: If it is missing, or not what was published.
            StoreError: If the storage or the cache fails.
        """
        files, directory = list_files(), _check(published.directory)
        wanted = Wanted(
            what=f"{published.model} {published.version}",
            digest=published.digest,
            files=files,
            bring=lambda one: self._storage.read(directory, _stored_name(one.path)),
            modes=partial(self._read_modes, directory),
        )
        with _failures(self.url, so=f"{wanted.what} could not be brought"):
            self._cache.fetch(wanted, verify=verify)
        return self.place(published)

    @contextmanager
    def read(self, directory: str, file: File) -> Iterator[Content]:
        """Open one published file; the storage gives it whole.

        Raises:
            OSError: If it cannot be read.
        """
        content = self._storage.read(_check(directory), _stored_name(file.path))
        yield Content(stream=View(content), size=len(content), mode=self._read_modes(directory).get(file.path, PLAIN))

    def find_damage(self, directory: str, files: Sequence[File]) -> Sequence[str]:
        """Hash what the storage holds and return what is not as published, in words: nothing when all is well."""
        _check(directory)
        damage = [f"{one.path} {fault}" for one in files if (fault := self._fault_of(directory, one))]
        try:
            decode_manifest(self._storage.read(directory, MANIFEST))
        except (MlcError, OSError, ValueError) as error:
            damage.append(f"its commit record cannot be read: {error}")
        return damage

    # ------------------------------------------------------------------ sweeping

    def claim(self, owner: str) -> None:
        """Note in the history of the storage whose artifacts these are."""
        if owner in self._claimed:
            return
        with suppress(MlcError, OSError):  # it is for sweepers, and no reason not to publish
            if owner not in self.owners():
                self._storage.note(OWNER + owner.encode())
            self._claimed.add(owner)

    def owners(self) -> frozenset[str]:
        """Return who has claimed it.

        Raises:
            StoreError: If the storage fails.
        """
        with _failures(self.url, so="its owners cannot be read"):
            notes = self._storage.notes()
        return frozenset(bytes(one).removeprefix(OWNER).decode() for one in notes if bytes(one).startswith(OWNER))

    def sweep(
        self, published: Callable[[str], Iterable[str]], *, older_than: timedelta, dry_run: bool
    ) -> tuple[Leftover, ...]:
        """Find entries without a row, and remove them unless *dry_run*; the storage sweeps its own leftovers then.

        Raises:
            StoreError: If the storage fails.
        """
        latest = time.time() - older_than.total_seconds()
        found = []
        with _failures(self.url, so="it was not swept to the end"), self._alone():
            by_model: dict[str, list[str]] = {}
            for entry in sorted(self._storage.entries()):
                by_model.setdefault(entry.partition("@")[0], []).append(entry)
            for model, entries in by_model.items():
                for entry in sorted(set(entries).difference(published(model))):
                    size = self._size_of_ours(entry, latest)
                    if size is not None:
                        found.append(Leftover(kind="unpublished", place=entry, size=size))
                        if not dry_run:
                            self._storage.remove(entry)
            if not dry_run:
                found += [Leftover(kind="staging", place=one, size=0) for one in self._storage.sweep()]
        return tuple(found)

    def _size_of_ours(self, entry: str, latest: float) -> int | None:
        """Return the size of an *entry* that we have made, not after *latest*; None for all others: they stay."""
        try:
            facts = decode_manifest(self._storage.read(entry, MANIFEST))
        except (FileNotFoundError, ValueError):
            return None
        return facts["size"] if facts["created_at"] <= latest else None

    # ------------------------------------------------------------------ the rest

    @contextmanager
    def _uploaded(self, source: Source) -> Iterator[Upload]:
        with ExitStack() as stack:
            with _failures(self.url):
                staging = self._storage.stage(sum(one.origin.stat().st_size for one in source.members))
                stack.callback(staging.discard)
                sent = [_send(one, staging) for one in source.members]
            modes = {file.path: mode for file, mode in sent if mode != PLAIN}
            held = stack.enter_context(ExitStack())
            files = tuple(file for file, _ in sent)
            yield Upload(folder=Path(), files=files, staging=staging, modes=modes, held=held)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of the storage, which one thread must not take twice."""
        depth = getattr(self._here, "depth", 0)
        with ExitStack() as stack:
            if not depth:
                stack.enter_context(self._storage.lock())
            self._here.depth = depth + 1
            try:
                yield
            finally:
                self._here.depth = depth

    def _fault_of(self, directory: str, file: File) -> str:
        try:
            content = self._storage.read(directory, _stored_name(file.path))
        except FileNotFoundError:
            return "is missing"
        except (MlcError, OSError) as error:
            return f"cannot be read: {error}"
        if len(content) != file.size:
            return f"has {len(content):,} bytes, not the {file.size:,} that were published"
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return "" if digest == file.digest else f"has other content: {digest}, not {file.digest}"

    def _read_modes(self, directory: str) -> dict[str, int]:
        try:
            return dict(decode_manifest(self._storage.read(directory, MANIFEST))["modes"])
        except (FileNotFoundError, ValueError) as error:
            msg = f"{self.url}/{directory} has no commit record that can be read: {error}; restore it from a copy"
            raise CorruptArtifactError(msg) from error


def _stored_name(path: str) -> str:
    """Return the name of a published file in its entry: *path* itself, or where no storage takes that, its digest."""
    if is_name(path) and path != MANIFEST and not path.startswith("_"):
        return path
    return f"_{hashlib.sha256(path.encode()).hexdigest()}"


def _send(member: Member, staging: Staging) -> tuple[File, int]:
    """Write one file, hashed on the way; return it with its permissions.

    Raises:
        SourceError: If it cannot be read, or changes while it is.
    """
    try:
        origin = member.origin.open("rb")
    except OSError as error:
        msg = f"{member.origin} cannot be published: {error.strerror or error}"
        raise SourceError(msg) from error
    digest = hashlib.sha256()

    def read() -> Iterator[bytes]:
        while piece := origin.read(PIECE):
            digest.update(piece)
            yield piece

    with origin:
        before = os.fstat(origin.fileno())
        try:
            staging.write(_stored_name(member.path), before.st_size, read())
        except StorageError as error:
            _refuse_change(member, before, os.fstat(origin.fileno()), error)
            raise
        _refuse_change(member, before, os.fstat(origin.fileno()), None)
    return File(member.path, before.st_size, f"sha256:{digest.hexdigest()}"), before.st_mode & 0o555


def _refuse_change(member: Member, before: os.stat_result, after: os.stat_result, cause: Exception | None) -> None:
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        msg = f"{member.origin} cannot be published: it changed while it was read"
        raise SourceError(msg) from cause


def _check(directory: str) -> str:
    if not is_name(directory):
        refuse_place(directory)
    return directory


@contextmanager
def _failures(url: str, *, so: str = "nothing was published") -> Iterator[None]:
    """Turn what mlc-core and the system raise into our own errors."""
    try:
        yield
    except RegistryError:
        raise
    except (StorageError, ConfigurationError, OSError) as error:
        msg = f"{hide_secrets(url)}: {so}, as the storage failed: {error}"
        raise StoreError(msg) from error
