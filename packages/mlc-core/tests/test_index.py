"""The index: with a cache, without one, and with a wrong one it says the same."""

import copy
import itertools
import math
import shutil
import threading
import uuid
from unittest.mock import patch

import attrs
import orjson
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mlc_core import CheckpointManager, CorruptCheckpointError, Monitor
from mlc_core.index import Index
from mlc_core.manifest import encode_manifest
from mlc_core.naming import MANIFEST
from mlc_core.records import FileRecord, Saved
from mlc_core.retention import KeepAll
from mlc_core.storage import LocalStorage, MemoryStorage

SCORE = Monitor(metric="score", mode="max")
SCORES = st.sampled_from([0.0, 0.5, 1.0, math.inf, math.nan, None])


class Plain:
    """A storage that has no more than the protocol asks for."""

    def __init__(self, storage):
        self._storage = storage
        self.capabilities = attrs.evolve(storage.capabilities, caches=False)
        self.url = storage.url

    def __getattr__(self, name):
        if name in {"glance", "token", "mark", "holds", "read_cache", "write_cache"}:
            raise AttributeError(name)
        return getattr(self._storage, name)


@pytest.fixture
def eager(monkeypatch):
    """No directory is too small for what is done in large ones, and nobody waits for the disk."""
    monkeypatch.setattr("mlc_core.index.FEW", 0)
    monkeypatch.setattr("mlc_core.index.SOME", 0)
    monkeypatch.setattr("os.fsync", lambda _: None)


def record(sequence, *, score=None, name=None, size=3):
    """Return a record with something in every field."""
    return Saved(
        model="unet",
        name=name or f"epoch_{sequence}",
        id=uuid.uuid4().hex,
        sequence=sequence,
        run="run",
        epoch=sequence,
        metrics={} if score is None else {"score": score},
        reasons=("an epoch ended", "best"),
        created_at="2026-01-01T00:00:00.000+00:00",
        elapsed=1.5 * sequence,
        items=("model",),
        files=(FileRecord(name="state.json", size=size, xxh3_128="0" * 32, serializer="json"),),
        versions={"python": "3.11"},
        strategy={"seen": sequence, "at": (1, math.nan)},
    )


def commit(storage, index, *, score=None, name=None):
    """Commit as a save does, and return the record."""
    with storage.lock():
        index.catch_up()
        name = name or f"epoch_{index.next_sequence}"
        saved = record(index.next_sequence, score=score, name=name)
        staging = storage.stage(0)
        staging.commit(name, encode_manifest(saved))
        index.add(name)
        index.point("latest", name)
        index.settle()
    return saved


def remove(storage, index, names):
    """Remove as retention does."""
    with storage.lock():
        index.catch_up()
        for name in names:
            storage.remove(name)
        index.forget(names)
        index.settle()


def said(index):
    """Return all that an index says, but for the next number: nothing else may depend on how it came to know."""
    return {
        "saved": [encode_manifest(one) for one in index.saved],
        "latest": index.latest and encode_manifest(index.latest),
        "best": (best := index.best(SCORE)) and best.id,
        "damaged": {name: str(error) for name, error in index.damaged.items()},
        "names": index.names,
        "found": {name: one.id for name in index.names if (one := index.get(name)) is not None},
        "epochs": {epoch: (one := index.of_epoch(epoch)) and one.id for epoch in range(1, 5)},
        "pointers": dict(index.pointers),
    }


# ---------------------------------------------------------------------- properties


def make_machine(base):  # noqa: C901 - one class, many small methods
    """Return the machine below *base*."""

    class Machine(RuleBasedStateMachine):
        @initialize()
        def begin(self):
            self.storage = LocalStorage(base / uuid.uuid4().hex)
            self.root = self.storage.location("")
            self.cache = self.root / ".mlc" / "index.cache"
            self.old_cache = b""
            self.numbers = itertools.count()
            self.highest = 0
            self.reopen(glance=False)

        @rule(glance=st.booleans())
        def reopen(self, glance):
            """Another process comes."""
            self.index = Index(self.storage, glance=glance)
            self.highest, self.touched = 0, glance

        @rule(score=SCORES)
        def save(self, score):
            """Commit one; it is there, and its number is new."""
            saved = commit(self.storage, self.index, score=score, name=f"n{next(self.numbers)}")
            assert saved.sequence > self.highest
            assert saved == self.index.get(saved.name) or "nan" in repr(saved)
            self.highest = saved.sequence

        def names(self):
            return sorted(self.storage.glance())

        @precondition(lambda self: self.names())
        @rule(data=st.data())
        def prune(self, data):
            """Remove some as retention does."""
            remove(self.storage, self.index, data.draw(st.sets(st.sampled_from(self.names()), max_size=3)))

        @precondition(lambda self: self.names())
        @rule(data=st.data(), how=st.sampled_from(["delete", "rename", "copy", "swap", "flip", "strip"]))
        def meddle(self, data, how):
            """Somebody is at it by hand."""
            path = self.root / data.draw(st.sampled_from(self.names()))
            other = self.root / f"hand_{next(self.numbers)}"
            manifest = path / MANIFEST
            if how == "delete":
                shutil.rmtree(path)
            elif how == "rename":
                path.rename(other)
            elif how == "copy":
                shutil.copytree(path, other)
            elif how == "swap" and manifest.exists():
                shutil.rmtree(path)
                path.mkdir()
                manifest.write_bytes(encode_manifest(record(7, score=0.75, name=path.name)))
                self.touched = True  # the new directory may have the inode of the old one
            elif how == "strip":
                manifest.unlink(missing_ok=True)
                self.touched = True
            elif how == "flip" and manifest.exists():
                content = bytearray(manifest.read_bytes())
                content[data.draw(st.integers(0, len(content) - 1))] ^= 1
                manifest.unlink()
                manifest.write_bytes(content)
                self.touched = True

        @rule(
            how=st.sampled_from(["keep", "put back", "delete", "tear", "flip", "directory"]), place=st.floats(0, 0.999)
        )
        def spoil_the_cache(self, how, place):
            """The cache is somebody's toy."""
            if self.cache.is_dir():
                self.cache.rmdir()
            content = self.cache.read_bytes() if self.cache.exists() else self.old_cache
            if how == "keep":
                self.old_cache = content
            elif how == "delete":
                self.cache.unlink(missing_ok=True)
            elif how == "directory":
                self.cache.unlink(missing_ok=True)
                self.cache.mkdir(parents=True)
            elif content:
                at = int(place * len(content))
                flipped = content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
                self.cache.write_bytes({"put back": self.old_cache, "tear": content[:at], "flip": flipped}[how])

        @rule()
        def another_process_saves(self):
            """And it does not know of us."""
            commit(self.storage, Index(self.storage), score=0.25, name=f"o{next(self.numbers)}")

        @rule()
        def look(self):
            """Refresh, as whoever lists or loads does: nothing at all escapes that."""
            self.index.refresh()
            assert said(Index(Plain(self.storage))) == said(self.index)
            self.touched = False

        @rule()
        def who_holds_the_lock_knows_what_is_there(self):
            """Whatever came or went, in whichever tick of the clock; what was changed inside a directory may wait."""
            with self.storage.lock():
                self.index.catch_up()
            truth = Index(Plain(self.storage))
            if not self.touched:
                assert said(truth) == said(self.index)
            assert self.index.next_sequence >= max((one.sequence for one in self.index.saved), default=0) + 1

        @invariant()
        def another_one_says_the_same(self):
            """Each beginning with the cache as it is."""
            assert said(Index(Plain(self.storage))) == said(Index(self.storage))

    return Machine


def test_any_life_of_a_cache(tmp_path, eager):
    """Whatever happens to directory and cache, who looks sees what is there."""
    run_state_machine_as_test(
        make_machine(tmp_path),
        settings=settings(
            max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.parametrize("make", [LocalStorage, lambda root: Plain(LocalStorage(root)), lambda _: MemoryStorage()])
def test_incremental_answers_are_those_of_a_new_index(tmp_path, eager, make):
    """Best and latest follow each commit and each removal, on every kind of storage."""

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.tuples(SCORES, st.booleans()), max_size=12), st.randoms(use_true_random=False))
    def check(life, choice):
        storage = make(tmp_path / uuid.uuid4().hex)
        index = Index(storage)
        for score, goes in life:
            index.best(SCORE)
            commit(storage, index, score=score)
            if goes:
                remove(storage, index, [choice.choice(index.saved).name])

            assert said(Index(Plain(storage))) == said(index)

    check()


@given(st.lists(st.sampled_from([0, 1]), min_size=2, max_size=40))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_two_that_commit_in_one_tick_see_each_other(tmp_path, eager, turns):
    """None lost, no number twice, as quickly as commits can follow each other."""
    root = tmp_path / uuid.uuid4().hex
    storages = [LocalStorage(root), LocalStorage(root)]
    indexes = [Index(one) for one in storages]
    committed = [commit(storages[turn], indexes[turn]) for turn in turns]

    assert list(range(1, len(turns) + 1)) == [one.sequence for one in committed]
    assert [one.id for one in committed] == [one.id for one in Index(storages[0]).saved]


def test_two_threads_with_managers_of_their_own(tmp_path, eager):
    """In the tightest loop, whoever gets the lock."""
    managers = [CheckpointManager(tmp_path, "unet", retention=KeepAll()) for _ in range(2)]

    def work(manager):
        for number in range(40):
            manager.save_checkpoint(items={"n": number}, epoch=number, reason="test")

    threads = [threading.Thread(target=work, args=(one,)) for one in managers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert list(range(1, 81)) == [one.sequence for one in CheckpointManager(tmp_path, "unet").list_checkpoints()]


def test_listing_while_another_thread_saves(tmp_path, eager):
    """Nothing that was committed is forgotten, whichever of the two knew of it first."""
    manager = CheckpointManager(tmp_path, "unet", retention=KeepAll(), monitor_metric="score", mode="max")
    done, counts = threading.Event(), []

    def look():
        while not done.is_set():
            counts.append(len(manager.list_checkpoints()))
            manager.get_best_checkpoint_path()

    thread = threading.Thread(target=look)
    thread.start()
    for epoch in range(40):
        manager.save_checkpoint(items={}, epoch=epoch, metrics={"score": float(epoch % 7)}, reason="test")
        assert epoch + 1 == len(manager._shelf.index.saved)
        assert min(epoch, 6) == manager._shelf.best.epoch
    done.set()
    thread.join()

    assert counts == sorted(counts)


# ---------------------------------------------------------------------- what a save looks at


def test_save_into_many_looks_at_none_of_them(tmp_path, eager):
    """After the first save of a process no other one scans, with links and retention and all."""
    manager = CheckpointManager(tmp_path, "unet", max_checkpoints=3, monitor_metric="score", mode="max")
    manager.save_checkpoint(items={}, epoch=0, metrics={"score": 0.5})
    with patch("mlc_core.index.SOME", 100), patch.object(LocalStorage, "_scan", side_effect=AssertionError):
        for epoch in range(1, 7):
            manager.save_checkpoint(items={}, epoch=epoch, metrics={"score": 1.0 if epoch == 3 else 0.1})

    assert [3, 5, 6] == [one.epoch for one in manager.list_checkpoints()]
    assert {"best": "epoch_3", "latest": "epoch_6"} == dict(manager.storage.pointers())


def test_directory_that_takes_no_mark_is_looked_at(tmp_path, eager, monkeypatch):
    """One that belongs to somebody else, or that rounds: slower, and as right."""

    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr("os.utime", refuse)
    storages = [LocalStorage(tmp_path), LocalStorage(tmp_path)]
    indexes = [Index(one) for one in storages]
    committed = [commit(storages[turn], indexes[turn]) for turn in (0, 1, 1, 0)]

    assert [1, 2, 3, 4] == [one.sequence for one in committed]
    assert storages[0].mark() is None


def test_mark_holds_until_something_comes_or_goes(tmp_path):
    """Even at once: no clock is fine enough for that, so none is asked."""
    storage = LocalStorage(tmp_path / "unet")
    with storage.lock():
        for number in range(100):
            mark = storage.mark()
            assert storage.holds(mark)
            (tmp_path / "unet" / f"epoch_{number}").mkdir()
            assert not storage.holds(mark)


def test_every_entry_is_looked_at_now_and_then(tmp_path, eager, monkeypatch):
    """What was changed inside a directory is noticed without anybody who asks for it."""
    monkeypatch.setattr("mlc_core.index.SOME", 3)
    storage = LocalStorage(tmp_path)
    index = Index(storage)
    for _ in range(2):
        commit(storage, index)
    (tmp_path / "epoch_1" / MANIFEST).unlink()
    seen = []
    for _ in range(6):
        commit(storage, index)
        seen.append(index.holds("epoch_1"))

    assert [True, False] == [seen[0], seen[-1]]


# ---------------------------------------------------------------------- what is in the cache


@pytest.fixture
def cached(tmp_path, eager):
    """A storage with three checkpoints and a cache of them."""
    storage = LocalStorage(tmp_path / "unet")
    index = Index(storage)
    for score in (0.25, math.nan, 0.75):
        commit(storage, index, score=score)
    assert (tmp_path / "unet" / ".mlc" / "index.cache").exists()
    return storage


def test_manifests_are_not_read_again(cached):
    """Whether one looks at each entry or only at the directory; but the newest, which the next save builds upon."""
    with patch.object(LocalStorage, "read", side_effect=AssertionError):
        assert 3 == len(Index(cached).saved)
    with patch.object(LocalStorage, "read", autospec=True, side_effect=LocalStorage.read) as read:
        assert "epoch_3" == Index(cached, glance=True).latest.name
    assert [("epoch_3", MANIFEST)] == [call.args[1:] for call in read.call_args_list]


def test_record_from_the_cache_is_a_record_like_any(cached):
    """Equal, to be copied, changed and printed, in whatever order."""
    (truth, *_), fresh = Index(Plain(cached)).saved, lambda: Index(cached).saved[0]
    truth = attrs.evolve(truth, strategy={})

    for same in (copy.copy(fresh()), attrs.evolve(fresh())):
        assert truth == attrs.evolve(same, strategy={})
    assert repr(truth.files) == repr(fresh().files)
    assert 3 == fresh().size
    with pytest.raises(AttributeError, match="color"):
        _ = fresh().color
    with pytest.raises(AttributeError, match="color"):
        _ = truth.color
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        fresh().epoch = 3


def test_number_of_a_deleted_checkpoint_does_not_come_again(cached):
    """Not even if the newest was deleted while nobody was there."""
    shutil.rmtree(cached.location("epoch_3"))

    assert [4, 4] == [Index(cached, glance=glance).next_sequence for glance in (False, True)]


def forge(path, change):
    """Let *change* have its way with the cache's head and columns, and make all digests right again."""
    facts, _, content = path.read_bytes().partition(b"\n")
    first, second = orjson.loads(facts)["sizes"]
    parts = {
        "head": orjson.loads(content[:first]),
        "columns": orjson.loads(content[first : first + second]),
        "rows": content[first + second :],
        "facts": orjson.loads(facts),
    }
    change(parts)
    head, columns = orjson.dumps(parts["head"]), orjson.dumps(parts["columns"])
    content = head + columns + parts["rows"]
    facts = {
        **parts["facts"],
        **({"sizes": [len(head), len(columns)]} if parts["facts"]["sizes"] == [first, second] else {}),
        "digest": xxhash.xxh3_128_hexdigest(content),
    }
    path.write_bytes(orjson.dumps(facts) + b"\n" + content)


JUNK = [None, True, -1, 2**60, 1.5, "x", [], {}, [[]], [None], ["x", "y", "z"], [{}, {}, {}], [-1, -1, -1], [9, 5, 1]]
FIELDS = {
    "head": ["name", "place", "highest"],
    "columns": ["id", "sequence", "epoch", "step", "epoch_ended", "elapsed", "metrics", "token", "end"],
    "facts": ["format", "sizes"],
}


@pytest.mark.parametrize("field", [(part, field) for part, fields in FIELDS.items() for field in fields], ids=str)
@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_forged_cache_raises_nothing_of_its_own(cached, field, junk):
    """It costs time, or is believed in what could have been; an index can be asked everything all the same."""
    part, name = field

    def change(parts):
        parts[part][name] = junk

    forge(cached.location(".mlc") / "index.cache", change)
    for glance in (False, True):
        index = Index(cached, glance=glance)
        assert ["epoch_1", "epoch_2", "epoch_3"] == sorted(index.names)
        assert index.next_sequence < 2**53
        index.best(SCORE)
        with cached.lock():
            index.catch_up()


def test_forged_rows_are_a_typed_error_that_says_what_to_do(cached):
    """The columns still say what they say."""
    path = cached.location(".mlc") / "index.cache"
    forge(path, lambda parts: parts.update(rows=b"x" * len(parts["rows"])))
    one = Index(cached).saved[0]

    assert "epoch_1" == one.name
    with pytest.raises(CorruptCheckpointError, match=r"delete .*index\.cache"):
        _ = one.files


def test_what_is_loaded_is_what_the_manifest_says(tmp_path, eager):
    """A cache that tells of other files, other items and other digests is not asked."""
    manager = CheckpointManager(tmp_path, "unet")
    for epoch in (1, 2):
        manager.save_checkpoint(items={"n": epoch}, epoch=epoch, reason="test")

    def change(parts):
        parts["rows"] = parts["rows"].replace(b'"items":["n"]', b'"items":["m"]')
        assert b'["m"]' in parts["rows"]

    forge(tmp_path / "unet" / ".mlc" / "index.cache", change)
    manager = CheckpointManager(tmp_path, "unet")

    assert [{"n": 2}, {"n": 1}] == [dict(manager.load_checkpoint(one).state) for one in ("latest", "epoch_1")]


def test_few_are_not_cached(tmp_path):
    """Ten manifests are read as quickly as a cache."""
    storage = LocalStorage(tmp_path)
    index = Index(storage)
    for _ in range(3):
        commit(storage, index)

    assert storage.read_cache() is None


def test_cache_that_cannot_be_written_is_none(cached, monkeypatch):
    """Nobody who only wants to look is bothered."""
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    index = Index(cached)
    commit(cached, index)

    assert 4 == len(index.saved)
    assert [] == list((cached.location(".mlc") / "trash").iterdir())


def test_absurdly_large_or_strange_cache_is_none(cached, monkeypatch):
    """Its size is looked at before it is read."""
    monkeypatch.setattr("mlc_core.storage.local.LARGEST_CACHE", 10)

    assert cached.read_cache() is None
    assert 3 == len(Index(cached).saved)
