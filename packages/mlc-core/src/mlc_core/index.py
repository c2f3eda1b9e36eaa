"""What checkpoints there are: read from the manifests, which are the truth; kept in memory, where it is quick.

Three ways to look, from slow to quick:

- `refresh` looks at every entry and reads the manifests that are new or changed. Whoever lists or loads does that.
- `catch_up` is for one who holds the storage's lock. Where the last who changed anything was this index, and the
  storage's mark proves it, nothing is looked at. So a save costs the same whatever lies there.
- A `glance` is how a manager begins: what the cache says of entries that are still there is believed until the first
  `refresh` or `catch_up`, which always comes before anything is committed, removed or loaded.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import ChainMap
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, cast

import attrs

from mlc_core.collector import no_collection
from mlc_core.errors import CorruptCheckpointError, StorageError
from mlc_core.index_cache import decode_cache, encode_cache
from mlc_core.manifest import MOST, decode_manifest
from mlc_core.naming import MANIFEST
from mlc_core.records import Saved
from mlc_core.retention.ranking import best_of

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence

    from mlc_core.index_cache import Cache
    from mlc_core.protocols import CachingStorage, Storage
    from mlc_core.records import Monitor

__all__ = ["Index"]

FEW = 256  # entries; to look at each of them takes less time than anything that could be done instead
SOME = 100  # entries; fewer are not worth a new cache, nor a look at all of them for what was changed inside
ORDER = attrgetter("sequence", "id", "name")  # a copy made by hand differs from its original in the name only


@attrs.frozen
class Folded:
    """What a glance showed: the cache is right but for what was *looked* into and for what is *gone*."""

    cache: Cache
    looked: Sequence[tuple[str, str, Saved | CorruptCheckpointError]] = ()
    gone: Collection[str] = ()
    latest: Saved | None = None


class Index:
    """The checkpoints in *storage*, as of the last `refresh`. Any thread may look while another one refreshes.

    Args:
        storage: Where they lie.
        glance: Begin with what the cache says, where there is one, without looking whether a manifest was changed.
    """

    def __init__(self, storage: Storage, *, glance: bool = False) -> None:
        self._storage = storage
        self._caching = cast("CachingStorage", storage) if storage.capabilities.caches else None
        self._turn = threading.RLock()
        self._tokens: dict[str, str] = {}
        self._found: dict[str, Saved] = {}
        self._damaged: dict[str, CorruptCheckpointError] = {}
        self._ordered: list[Saved] = []
        self._version = 0
        self._saved: tuple[int, tuple[Saved, ...]] = (0, ())
        self._best: dict[Monitor, Saved | None] = {}
        self._pointers: Mapping[str, str] | None = None
        self._highest = self._floor = 0
        self._mark: str | None = None
        self._changes = 0
        """How many came and went since every entry was looked at, by this index alone."""
        self._uncached = 0
        """How many came and went since the cache was written."""
        cache = self._read_cache()
        self._folded = Folded(cache) if cache else None
        if not (cache and glance and self._glance(cache)):
            self.refresh()

    # ------------------------------------------------------------------ looking at the storage

    def refresh(self) -> None:
        """Read the manifests that came, and forget those that went, since the last time."""
        with self._turn:
            self._unfold()
            self._pointers = None
            entries = dict(self._storage.entries())
            if entries != self._tokens:
                self._follow(entries.items() - self._tokens.items(), self._tokens.keys() - entries.keys())
            self._write_cache()

    def catch_up(self) -> None:
        """Know what is there, for one who holds the lock; without looking where nobody else can have changed it."""
        if self.is_current():
            return
        with self._turn:
            self._unfold()
            many = self._caching is not None and len(self._tokens) >= FEW
            self._mark = self._caching.mark() if many and self._caching else None  # first: it tells what comes later
            self.refresh()
            self._changes = 0

    def is_current(self) -> bool:
        """Say whether nothing came or went since the last change by this index.

        Now and then the answer is no all the same, so that what was changed inside of an entry is noticed some day.
        """
        mark, caching = self._mark, self._caching
        few = self._changes <= max(SOME, len(self._tokens) // 100)
        return mark is not None and caching is not None and few and caching.holds(mark)

    def add(self, name: str) -> None:
        """Take note of the entry that who holds the lock, and has caught up, committed."""
        with self._turn:
            token = self._caching.token(name) if self._caching and self._mark else None
            if token is None:
                self.refresh()
            else:
                self._follow({(name, token)}, ())

    def forget(self, names: Iterable[str]) -> None:
        """Take note of what who holds the lock, and has caught up, removed."""
        with self._turn:
            if self._mark is None:
                self.refresh()
            else:
                self._follow((), set(names))

    def point(self, pointer: str, entry: str | None) -> None:
        """Let *pointer* point to *entry* in the storage; None removes it.

        Raises:
            StorageError: If that failed.
        """
        pointers = {name: target for name, target in self.pointers.items() if name != pointer}
        self._pointers = None
        self._storage.point(pointer, entry)
        self._pointers = pointers if entry is None else {**pointers, pointer: entry}

    def settle(self) -> None:
        """Claim what is there now as known, for one who holds the lock, has caught up, and made all changes since."""
        with self._turn:
            if self._mark is not None and self._caching is not None:
                self._mark = self._caching.mark()
            self._write_cache()

    def confirm(self, saved: Saved) -> Saved:
        """Return the record of *saved* that its manifest gives: a cache never says what a file should be.

        Raises:
            CorruptCheckpointError: If the manifest is damaged or gone.
        """
        if getattr(saved, "_rest", None) is None:
            return saved
        try:
            _, found = self._read(saved.name, "")
        except FileNotFoundError as error:
            msg = f"{self._storage.location(saved.name)}/{MANIFEST} is missing"
            raise CorruptCheckpointError(msg) from error
        if isinstance(found, Saved):
            return found
        raise found

    def _look(self, changed: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, Saved | CorruptCheckpointError]]:
        for name, token in changed:
            with suppress(FileNotFoundError):  # another process may remove it at this moment
                yield name, *self._read(name, token)

    def _follow(self, changed: Collection[tuple[str, str]], gone: Collection[str]) -> None:
        names = {name for name, _ in changed}
        looked = tuple(self._look(changed))
        self._take(looked, {*gone, *(names - {name for name, *_ in looked})})

    def _take(self, looked: Sequence[tuple[str, str, Saved | CorruptCheckpointError]], gone: Collection[str]) -> None:
        broken, came = 0, []
        lost = [self._found.pop(name) for name in (*gone, *(name for name, *_ in looked)) if name in self._found]
        for name in gone:
            self._tokens.pop(name, None)
            self._damaged.pop(name, None)
        for name, token, found in looked:
            known = name in self._tokens
            self._tokens[name] = token
            self._damaged.pop(name, None)
            if isinstance(found, Saved):
                self._found[name] = found
                came.append(found)
            else:
                self._damaged[name] = found
                broken += not known
        self._highest = max(self._highest, *(one.sequence for one in came), 0) + broken
        self._arrange(came, lost)

    def _arrange(self, came: Sequence[Saved], lost: Sequence[Saved]) -> None:
        if len(came) + len(lost) > len(self._ordered) // 100:
            self._ordered = sorted(self._found.values(), key=ORDER)
            self._best = {}
        else:
            for one in lost:
                del self._ordered[bisect_left(self._ordered, ORDER(one), key=ORDER)]
            for one in came:
                self._ordered.insert(bisect_left(self._ordered, ORDER(one), key=ORDER), one)
            gone = {id(one) for one in lost}
            kept = {monitor: best for monitor, best in self._best.items() if id(best) not in gone}
            self._best = {monitor: _better(best, came, monitor) for monitor, best in kept.items()}
        self._changes += len(came) + len(lost)
        self._uncached += len(came) + len(lost)
        self._version += 1

    def _read(self, name: str, token: str) -> tuple[str, Saved | CorruptCheckpointError]:
        where = self._storage.location(name)
        try:
            saved = decode_manifest(self._storage.read(name, MANIFEST), str(where))
        except CorruptCheckpointError as error:
            return token, error
        except StorageError as error:
            unreadable = CorruptCheckpointError(f"{where}/{MANIFEST} cannot be read: {error}")
            return "", unreadable  # a token that nothing has: it is tried again next time
        return token, saved if saved.name == name else attrs.evolve(saved, name=name)  # renamed or copied by hand

    # ------------------------------------------------------------------ the cache

    def _read_cache(self) -> Cache | None:
        if self._caching is None:
            return None
        with suppress(StorageError):
            return decode_cache(self._caching.read_cache() or b"")
        return None

    def _glance(self, cache: Cache) -> bool:
        """Hold *cache* against what can be seen without looking into entries; the newest is looked into."""
        assert self._caching is not None
        try:
            seen = self._caching.glance()
        except StorageError:
            return False
        newest = next(reversed(cache.places), None)
        names = {name for name, _ in seen.items() - cache.places.items()} | ({newest} & seen.keys())
        tokens = {name: self._caching.token(name) for name in names if name is not None}
        looked = tuple(self._look([(name, token) for name, token in tokens.items() if token is not None]))
        gone = (cache.places.keys() - seen.keys()) | (tokens.keys() - {name for name, *_ in looked})
        sound = [found for *_, found in looked if isinstance(found, Saved)]
        known = newest in {one.name for one in sound}
        self._folded = Folded(cache, looked, gone, max(sound, key=ORDER) if known else None)
        return True

    def _unfold(self) -> None:
        """Make the records of what a glance showed, once."""
        folded = self._folded
        if folded is None:
            return
        with self._turn, no_collection():
            if self._folded is not folded:  # another thread was quicker
                return
            records = folded.cache.records()
            if records is None:
                self._folded = None
                self.refresh()
                return
            self._highest = folded.cache.highest
            self._tokens = dict(zip(folded.cache.places, records[0], strict=True))
            self._found = dict(zip(folded.cache.places, records[1], strict=True))
            self._ordered = sorted(records[1], key=ORDER)
            self._take(folded.looked, folded.gone)
            self._folded = None

    def _write_cache(self) -> None:
        """Write what was read, if so much of it is new that writing all costs little for each."""
        count = len(self._ordered)
        if self._caching is None or count < FEW or self._uncached <= max(SOME, count // 100):
            return
        with suppress(StorageError):  # perhaps it may only be read; the manifests are there
            self._caching.write_cache(encode_cache(self._ordered, self._tokens, self._highest))
        self._uncached = 0

    # ------------------------------------------------------------------ what is known

    @property
    def saved(self) -> tuple[Saved, ...]:
        """The checkpoints with a sound manifest, in order of commit."""
        self._unfold()
        version, saved = self._saved
        if version != self._version:
            version = self._version  # before the copy: if another thread changes it meanwhile, it is copied again
            saved = tuple(self._ordered)
            self._saved = version, saved
        return saved

    @property
    def damaged(self) -> Mapping[str, CorruptCheckpointError]:
        """The entries whose manifest cannot be believed, and why. They count for nothing and are never removed."""
        self._unfold()
        return dict(self._damaged)

    @property
    def names(self) -> frozenset[str]:
        """Every name of an entry."""
        self._unfold()
        return frozenset(self._tokens)

    @property
    def pointers(self) -> Mapping[str, str]:
        """The pointers and the entries they lead to."""
        if self._pointers is None:
            self._pointers = dict(self._storage.pointers())
        return self._pointers

    @property
    def taken(self) -> Container[str]:
        """Every name of an entry or a pointer; to ask, not to keep."""
        self._unfold()
        return ChainMap(self._tokens, dict(self.pointers))

    def holds(self, name: str) -> bool:
        """Say whether there is an entry *name*, sound or damaged."""
        self._unfold()
        return name in self._tokens

    def get(self, name: str) -> Saved | None:
        """Return the checkpoint called *name*, if its manifest is sound."""
        self._unfold()
        return self._found.get(name)

    @property
    def next_sequence(self) -> int:
        """A number above all that were seen here, damaged ones counted as if each had been the last."""
        self._unfold()
        return max(self._highest, self._floor) + 1

    def count_from(self, sequence: int) -> None:
        """Give no number up to *sequence* again: what had it may come back from quarantine."""
        if sequence < MOST >> 1:  # no line of a history can use the numbers up
            self._floor = max(self._floor, sequence)

    @property
    def latest(self) -> Saved | None:
        """The checkpoint committed last."""
        folded = self._folded
        if folded is not None and folded.latest is not None:
            return folded.latest
        self._unfold()
        return next(iter(self._ordered[-1:]), None)

    def best(self, monitor: Monitor | None) -> Saved | None:
        """Return the best by *monitor*, the earlier of two equals; None where nothing is monitored or measured."""
        if monitor is None:
            return None
        best = self._best
        if monitor not in best:
            best[monitor] = next(iter(best_of(self.saved, monitor, 1)), None)
        return best[monitor]

    def of_epoch(self, epoch: int) -> Saved | None:
        """Return the checkpoint of *epoch*: its end if that was saved, and of several the one committed last."""
        found = [one for one in self.saved if one.epoch == epoch]
        return max(found, key=lambda one: (one.epoch_ended, one.sequence), default=None)


def _better(best: Saved | None, came: Sequence[Saved], monitor: Monitor) -> Saved | None:
    candidates = sorted([*([best] if best else []), *came], key=ORDER)
    return next(iter(best_of(candidates, monitor, 1)), None)
