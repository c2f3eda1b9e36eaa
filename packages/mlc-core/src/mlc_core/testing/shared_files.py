"""What holds for storages with links or joined writers, as tests that the storage contract inherits."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
import xxhash

from mlc_core.catalogs import open_storage
from mlc_core.errors import StorageError
from mlc_core.protocols import JoinableStorage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_core.protocols import LinkingStaging, Storage

__all__ = ["SharedFilesContract"]

MANIFEST = "manifest.json"


class SharedFilesContract:
    """What holds where checkpoints can share files, or writers a checkpoint; skipped where a storage cannot do it."""

    @pytest.fixture
    def storage(self) -> Storage:
        """Return the storage; override this."""
        msg = "give the fixture storage"
        raise NotImplementedError(msg)

    def reopen(self, storage: Storage) -> Storage:
        """Return another storage of the same place; override this where the URL alone does not lead there."""
        return open_storage(storage.url)

    def put(self, storage: Storage, entry: str, files: Mapping[str, bytes], manifest: bytes = b"{}") -> None:
        """Commit *files* as *entry*."""
        staging = storage.stage(sum(map(len, files.values())))
        try:
            for name, content in files.items():
                staging.write(name, len(content), [content])
            staging.commit(entry, manifest)
        finally:
            staging.discard()

    # ------------------------------------------------------------------ links between checkpoints

    def link(self, storage: Storage, entry: str, file: str, source: str) -> None:
        """Commit as *entry* nothing but the *file* of *source*."""
        staging = cast("LinkingStaging", storage.stage(0))
        try:
            staging.link(file, source)
            staging.commit(entry, b"{}")
        finally:
            staging.discard()

    @pytest.mark.parametrize("removed", ["old", "new"])
    @pytest.mark.parametrize("size", [3, 100_000])
    def test_linked_file_outlives_either_entry(self, storage: Storage, removed: str, size: int) -> None:
        """The content is that of the other entry, and removing one of them leaves the other as it was."""
        if not storage.capabilities.links:
            pytest.skip("it has no links")
        self.put(storage, "old", {"one.bin": b"a" * size})
        self.link(storage, "new", "one.bin", "old")

        assert b"a" * size == bytes(storage.read("new", "one.bin"))
        storage.remove(removed)
        (left,) = storage.entries()
        assert {"old", "new"} - {removed} == {left}
        assert b"a" * size == bytes(storage.read(left, "one.bin"))

    def test_link_to_nothing_is_an_error_and_the_staging_goes_on(self, storage: Storage) -> None:
        """Neither an absent entry nor an absent file can be linked; the file can be written instead."""
        if not storage.capabilities.links:
            pytest.skip("it has no links")
        self.put(storage, "old", {"one.bin": b"one"})
        staging = cast("LinkingStaging", storage.stage(3))
        for file, entry in (("one.bin", "absent"), ("absent.bin", "old")):
            with pytest.raises(StorageError):
                staging.link(file, entry)
        staging.write("one.bin", 3, [b"two"])
        staging.commit("new", b"{}")

        assert [b"one", b"two"] == [bytes(storage.read(name, "one.bin")) for name in ("old", "new")]

    def test_linked_and_written_files_are_committed_together(self, storage: Storage) -> None:
        """A checkpoint can have some of each."""
        if not storage.capabilities.links:
            pytest.skip("it has no links")
        self.put(storage, "old", {"frozen.bin": b"frozen"})
        staging = cast("LinkingStaging", storage.stage(7))
        staging.link("frozen.bin", "old")
        staging.write("trained.bin", 7, [b"trained"])
        staging.commit("new", b"{}")

        assert [b"frozen", b"trained"] == [bytes(storage.read("new", f"{one}.bin")) for one in ("frozen", "trained")]

    # ------------------------------------------------------------------ writers that join

    def joinable(self, storage: Storage) -> JoinableStorage:
        """Return *storage* as what it claims to be."""
        if not storage.capabilities.joins:
            pytest.skip("nobody can join its writers")
        assert isinstance(storage, JoinableStorage)
        return storage

    def test_joined_writers_write_one_checkpoint(self, storage: Storage) -> None:
        """What both wrote is committed by one of them, and the other only takes leave."""
        first = self.joinable(storage).stage(6)
        second = self.joinable(self.reopen(storage)).join(first.token)
        first.write("one.bin", 3, [b"one"])
        digest = second.write("two.bin", 3, [b"two"])
        second.discard()
        storage.sweep()
        first.commit("entry", b"{}")

        assert xxhash.xxh3_128_hexdigest(b"two") == digest
        assert [b"one", b"two"] == [bytes(storage.read("entry", f"{name}.bin")) for name in ("one", "two")]

    def test_discard_after_anothers_commit_does_nothing(self, storage: Storage) -> None:
        """The checkpoint stays whole, whoever leaves later."""
        first = self.joinable(storage).stage(3)
        second = self.joinable(self.reopen(storage)).join(first.token)
        second.write("two.bin", 3, [b"two"])
        first.commit("entry", b"{}")
        second.discard()
        second.discard()

        assert b"two" == bytes(storage.read("entry", "two.bin"))

    def test_joining_nothing_is_an_error(self, storage: Storage) -> None:
        """Neither an unknown token nor one that was committed leads anywhere."""
        place = self.joinable(storage)
        staging = place.stage(0)
        staging.commit("entry", b"{}")

        for token in ("unknown", staging.token):
            with pytest.raises(StorageError):
                place.join(token)
