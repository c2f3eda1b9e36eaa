"""What holds for every storage, as tests to inherit."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_core.errors import ConfigurationError, EntryExistsError, StorageError
from mlc_core.protocols import JoinableStorage
from mlc_core.testing.shared_files import SharedFilesContract

if TYPE_CHECKING:
    from mlc_core.protocols import Storage

__all__ = ["StorageContract"]

MANIFEST = "manifest.json"
UNSAFE = ("", ".", "..", "../outside", "/etc", ".hidden", "a/b", "a\0b", "spaces in it")


class StorageContract(SharedFilesContract):
    """What holds for every storage. Subclass it and give the fixture `storage`, a new and empty one."""

    # ------------------------------------------------------------------ entries

    def test_empty_storage_has_nothing(self, storage: Storage) -> None:
        """Looking at a place where nothing was saved is no error and makes nothing."""
        assert {} == dict(storage.entries())
        assert {} == dict(storage.pointers())
        assert [] == list(storage.sweep())

    def test_what_is_committed_can_be_read(self, storage: Storage) -> None:
        """Any content in any pieces, and the manifest with it."""

        @settings(suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(st.binary(max_size=300), max_size=4), st.binary(min_size=1, max_size=50))
        def check(pieces: list[bytes], manifest: bytes) -> None:
            staging = storage.stage(sum(map(len, pieces)))
            digest = staging.write("one.bin", sum(map(len, pieces)), iter(pieces))
            staging.commit("entry", manifest)
            staging.discard()
            assert xxhash.xxh3_128_hexdigest(b"".join(pieces)) == digest
            found = {name: bytes(storage.read("entry", name)) for name in ("one.bin", MANIFEST)}
            storage.remove("entry")

            assert {"one.bin": b"".join(pieces), MANIFEST: manifest} == found

        check()

    def test_large_files_come_back(self, storage: Storage) -> None:
        """A few megabytes, given in pieces of several types."""
        content = bytes(range(256)) * 12_000
        staging = storage.stage(len(content))
        pieces: list[bytearray | memoryview] = [memoryview(content)[:1_000_001], bytearray(content[1_000_001:])]
        digest = staging.write("large.bin", len(content), pieces)
        staging.commit("entry", b"{}")

        assert xxhash.xxh3_128_hexdigest(content) == digest
        assert content == bytes(storage.read("entry", "large.bin"))

    @pytest.mark.parametrize("length", [3, 3_000_000])
    @pytest.mark.parametrize("more", [-1, 1])
    def test_wrong_size_is_refused(self, storage: Storage, length: int, more: int) -> None:
        """More or fewer bytes than were announced are an error; another file can be written after it."""
        content = b"a" * length
        staging = storage.stage(length)
        with pytest.raises(StorageError):
            staging.write("one.bin", length + more, [content[:2], content[2:]])
        staging.write("two.bin", length, [content[:2], content[2:]])
        staging.commit("entry", b"{}")

        assert content == bytes(storage.read("entry", "two.bin"))

    def test_nothing_is_visible_before_the_commit(self, storage: Storage) -> None:
        """A staged checkpoint is not there for readers."""
        staging = storage.stage(3)
        staging.write("one.bin", 3, [b"one"])

        assert {} == dict(storage.entries())
        staging.commit("entry", b"{}")
        assert ["entry"] == list(storage.entries())

    def test_discarded_staging_leaves_nothing(self, storage: Storage) -> None:
        """What was written and not committed is gone, and discarding twice is once."""
        staging = storage.stage(3)
        staging.write("one.bin", 3, [b"one"])
        staging.discard()
        staging.discard()

        assert {} == dict(storage.entries())

    def test_discarding_after_the_commit_does_nothing(self, storage: Storage) -> None:
        """A checkpoint that is committed stays."""
        staging = storage.stage(0)
        staging.commit("entry", b"{}")
        staging.discard()

        assert b"{}" == bytes(storage.read("entry", MANIFEST))

    def test_taken_name_is_refused(self, storage: Storage) -> None:
        """Nothing is overwritten; the staging can be committed under another name."""
        self.put(storage, "entry", {"one.bin": b"old"})
        staging = storage.stage(3)
        staging.write("one.bin", 3, [b"new"])

        with pytest.raises(EntryExistsError):
            staging.commit("entry", b"{}")
        staging.commit("other", b"[]")
        staging.discard()
        found = {name: bytes(storage.read(name, "one.bin")) for name in storage.entries()}
        assert {"entry": b"old", "other": b"new"} == found
        assert b"[]" == bytes(storage.read("other", MANIFEST))

    def test_missing_is_file_not_found(self, storage: Storage) -> None:
        """No such entry and no such file are told the same way."""
        self.put(storage, "entry", {})

        for entry, file in (("absent", MANIFEST), ("entry", "absent.bin")):
            with pytest.raises(FileNotFoundError):
                storage.read(entry, file)

    def test_readers_cannot_change_what_is_stored(self, storage: Storage) -> None:
        """The memory that is read into is the reader's own, whether the file is short or long."""
        for size in (3, 100_000):
            self.put(storage, "entry", {"one.bin": b"a" * size})
            view = storage.read("entry", "one.bin")
            view[0] = ord("b")

            assert b"a" * size == bytes(storage.read("entry", "one.bin"))
            storage.remove("entry")

    def test_what_was_read_outlives_its_removal(self, storage: Storage) -> None:
        """A reader may go on while retention removes the checkpoint."""
        content = bytes(range(256)) * 1000
        self.put(storage, "entry", {"one.bin": content})
        view = storage.read("entry", "one.bin")
        storage.remove("entry")

        assert content == bytes(view)

    def test_removed_is_gone(self, storage: Storage) -> None:
        """Removing takes one entry, and removing what is not there is no error."""
        self.put(storage, "one", {})
        self.put(storage, "two", {})
        storage.remove("one")
        storage.remove("one")

        assert ["two"] == list(storage.entries())

    def test_token_tells_a_later_entry_of_the_same_name(self, storage: Storage) -> None:
        """The same token means the same checkpoint."""
        self.put(storage, "entry", {}, b"first")
        first = storage.entries()["entry"]
        again = storage.entries()["entry"]
        storage.remove("entry")
        self.put(storage, "entry", {}, b"second")

        assert first == again
        assert first != storage.entries()["entry"]

    def test_names_cannot_lead_outside(self, storage: Storage) -> None:
        """Paths and hidden names are refused before anything is touched, wherever a name is taken."""
        self.put(storage, "entry", {})
        staging = storage.stage(0)

        for name in UNSAFE:
            with pytest.raises(ConfigurationError):
                staging.write(name, 0, [])
            with pytest.raises(ConfigurationError):
                staging.commit(name, b"{}")
            with pytest.raises(ConfigurationError):
                storage.read("entry", name)
            with pytest.raises(ConfigurationError):
                storage.point(name, "entry")
            with pytest.raises(ConfigurationError):
                storage.point("latest", name)
        staging.discard()
        assert ["entry"] == list(storage.entries())

    # ------------------------------------------------------------------ set aside, history

    def test_set_aside_is_out_of_sight(self, storage: Storage) -> None:
        """It is no entry any more, is not swept, its name is free, and it can be done again with that name."""
        places = []
        for content in (b"first", b"second"):
            self.put(storage, "entry", {"one.bin": content})
            places.append(storage.set_aside("entry"))
            storage.sweep()

            assert {} == dict(storage.entries())
            with pytest.raises(FileNotFoundError):
                storage.read("entry", "one.bin")
        assert len(set(places)) == 2

    def test_setting_aside_what_is_not_there_is_file_not_found(self, storage: Storage) -> None:
        """And others stay."""
        self.put(storage, "entry", {})
        with pytest.raises(FileNotFoundError):
            storage.set_aside("absent")

        assert ["entry"] == list(storage.entries())

    def test_notes_come_back_in_order(self, storage: Storage) -> None:
        """Any lines, also those of another storage of the place; a removed entry takes none with it."""
        assert [] == list(storage.notes())
        lines = [b'{"event": "saved"}', b"", "in any words: ü".encode(), b"no JSON at all"]
        self.put(storage, "entry", {})
        for line in lines:
            storage.note(line)
        storage.remove("entry")
        other = self.reopen(storage)
        other.note(b"from another")

        assert [*lines, b"from another"] == [bytes(line) for line in storage.notes()]
        assert [*lines, b"from another"] == [bytes(line) for line in storage.notes(100)]
        assert [lines[-1], b"from another"] == [bytes(line) for line in storage.notes(2)]
        assert {} == dict(storage.entries())

    # ------------------------------------------------------------------ pointers

    def test_pointers_lead_to_entries(self, storage: Storage) -> None:
        """Set, replaced and removed; they are no entries themselves."""
        for name in ("one", "two"):
            self.put(storage, name, {})
        for name in ("one", "two", "two"):
            storage.point("latest", name)
        storage.point("best", "one")

        assert {"latest": "two", "best": "one"} == dict(storage.pointers())
        assert {"one", "two"} == set(storage.entries())
        storage.point("best", None)
        storage.point("best", None)
        assert {"latest": "two"} == dict(storage.pointers())

    def test_location_tells_entries_apart(self, storage: Storage) -> None:
        """Two entries lie at two places that end in their names."""
        places = [str(storage.location(name)) for name in ("one", "two")]

        assert places[0].endswith("one")
        assert places[1].endswith("two")

    # ------------------------------------------------------------------ several writers

    def test_sweep_leaves_what_is_alive(self, storage: Storage) -> None:
        """A writer at work and a committed checkpoint lose nothing."""
        self.put(storage, "entry", {"one.bin": b"one"})
        staging = storage.stage(3)
        staging.write("one.bin", 3, [b"two"])
        storage.sweep()
        staging.commit("other", b"{}")

        assert [b"one", b"two"] == [bytes(storage.read(name, "one.bin")) for name in ("entry", "other")]

    def test_lock_keeps_another_writer_out(self, storage: Storage) -> None:
        """The second one waits until the first one is done, also when that one fails."""
        other, entered, done = self.reopen(storage), threading.Event(), []

        def second() -> None:
            entered.set()
            with other.lock():
                done.append("second")

        def first() -> None:
            with storage.lock():
                thread.start()
                entered.wait()
                thread.join(0.05)
                done.append("first")
                raise KeyError

        thread = threading.Thread(target=second)
        with pytest.raises(KeyError):
            first()
        thread.join()

        assert ["first", "second"] == done

    def test_another_storage_of_the_place_sees_the_same(self, storage: Storage) -> None:
        """The URL is all that is needed to come back."""
        self.put(storage, "entry", {"one.bin": b"one"})
        storage.point("latest", "entry")
        again = self.reopen(storage)

        assert dict(storage.entries()) == dict(again.entries())
        assert {"latest": "entry"} == dict(again.pointers())
        assert b"one" == bytes(again.read("entry", "one.bin"))

    def test_capabilities_are_claims(self, storage: Storage) -> None:
        """It says whether commits are durable, whether processes may share it, and what else it can do."""
        claims = storage.capabilities

        assert all(type(one) is bool for one in (claims.durable, claims.shared, claims.links, claims.joins))
        assert claims.joins <= isinstance(storage, JoinableStorage)
