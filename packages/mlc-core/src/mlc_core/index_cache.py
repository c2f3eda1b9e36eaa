"""What was read from many manifests, in one file that may vanish at any time: the manifests stay the truth."""

from __future__ import annotations

from collections import deque
from itertools import repeat, starmap
from operator import attrgetter
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any

import orjson
import xxhash

from mlc_core.collector import no_collection
from mlc_core.errors import CorruptCheckpointError
from mlc_core.manifest import FIELDS, FORMAT, MOST, encode_manifest
from mlc_core.records import Saved

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Cache", "decode_cache", "encode_cache"]

CACHE_FORMAT = f"mlc-index/1 of {FORMAT}"
COUNT: set[type] = {int}
NUMBER: set[type] = {int, NoneType}
COLUMNS: dict[
    str, set[type]
] = {  # what retention and the index look at, and the types that it has; the rest is read when it is looked at
    "name": {str},
    "id": {str},
    "sequence": COUNT,
    "epoch": NUMBER,
    "step": NUMBER,
    "epoch_ended": {bool},
    "elapsed": {float},
    "metrics": {dict, NoneType},  # None: they are among the rest, because JSON has no word for one of them
}
COUNTS = ("sequence", "epoch", "step", "elapsed")
REST = tuple(field for field in FIELDS if field not in COLUMNS or field == "metrics")


class Cache:
    """Records by the columns of a cache that was found to be whole."""

    def __init__(self, columns: Mapping[str, list[Any]], rows: memoryview, highest: int) -> None:
        self._columns = columns
        self._rows = Rows(columns["end"], rows)
        self.highest = highest
        """The highest sequence number that was ever seen here."""

    @property
    def names(self) -> list[str]:
        """The entries, in order of commit."""
        return self._columns["name"]

    @property
    def tokens(self) -> list[str]:
        """The token of each entry when its manifest was read."""
        return self._columns["token"]

    def records(self) -> list[Saved]:
        """Return the record of each entry. Setting one field of all at a time is what makes it quick."""
        with no_collection():
            made = Saved.folded(self._rows, len(self.names))
            for field in COLUMNS.keys() - {"metrics"}:
                _exhaust(map(getattr(Saved, field).__set__, made, self._columns[field]))
            metrics = zip(made, self._columns["metrics"], strict=True)
            known = ((one, MappingProxyType(found)) for one, found in metrics if found is not None)
            _exhaust(starmap(Saved.metrics.__set__, known))  # type: ignore[attr-defined]
        return made


class Rows:
    """What the columns leave out, as JSON: one row for each record."""

    def __init__(self, ends: list[int], content: memoryview) -> None:
        self._ends = ends
        self._content = content

    def raw(self, position: int) -> memoryview:
        """Return one row."""
        return self._content[self._ends[position - 1] if position else 0 : self._ends[position]]

    def read(self, position: int) -> Mapping[str, Any]:
        """Return the fields in one row.

        Raises:
            CorruptCheckpointError: If they are not what a manifest has.
        """
        try:
            facts = orjson.loads(self.raw(position))
            found = {field: FIELDS[field](facts[field]) for field in REST}
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            msg = f"the cache of the index cannot be believed ({error!r}): delete index.cache, it is made again"
            raise CorruptCheckpointError(msg) from error
        return {field: MappingProxyType(value) if type(value) is dict else value for field, value in found.items()}


def encode_cache(saved: Sequence[Saved], tokens: Mapping[str, str], highest: int) -> bytes:
    """Return a cache of *saved*, believable as long as each entry has its token in *tokens*."""
    rows = [_row(one) for one in saved]
    ends, end = [], 0
    for row in rows:
        end += len(row)
        ends.append(end)
    columns = {field: list(map(attrgetter(field), saved)) for field in COLUMNS.keys() - {"metrics"}}
    columns |= {
        "metrics": [_plain(one.metrics) for one in saved],
        "token": [tokens[one.name] for one in saved],
        "end": ends,
    }
    head = orjson.dumps({"columns": columns, "highest": highest})
    body = b"".join((head, *rows))
    facts = {"format": CACHE_FORMAT, "head": len(head), "digest": xxhash.xxh3_128_hexdigest(body)}
    return orjson.dumps(facts) + b"\n" + body


def _row(saved: Saved) -> bytes | memoryview:
    rest = getattr(saved, "_rest", None)
    if rest is not None and isinstance(rest[0], Rows):
        return rest[0].raw(rest[1])
    facts = orjson.loads(encode_manifest(saved))
    return orjson.dumps({field: facts[field] for field in REST})


def _plain(metrics: Mapping[str, float]) -> dict[str, float] | None:
    return dict(metrics) if all(value - value == 0 for value in metrics.values()) else None  # neither NaN nor infinite


def decode_cache(data: bytes) -> Cache | None:
    """Return the cache in *data*, or None if it is torn, changed, of another format or not believable."""
    try:
        facts = orjson.loads(data[: data.index(b"\n")])
        if facts["format"] != CACHE_FORMAT:
            return None
        body = memoryview(data)[data.index(b"\n") + 1 :]
        if facts["digest"] != xxhash.xxh3_128_hexdigest(body):
            return None
        with no_collection():
            head = orjson.loads(body[: facts["head"]])
        cache = Cache(head["columns"], body[facts["head"] :], head["highest"])
        return cache if _is_believable(head["columns"], len(body) - facts["head"], cache.highest) else None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
        return None


def _is_believable(columns: Mapping[str, list[Any]], size: int, highest: object) -> bool:
    """Say whether every column has what it should: a cache that was made to harm must not get further than this."""
    types: dict[str, set[type]] = {**COLUMNS, "token": {str}, "end": COUNT}
    if columns.keys() != types.keys() or any(type(column) is not list for column in columns.values()):
        return False
    count, ends = len(columns["name"]), columns["end"]
    values = (value for metrics in columns["metrics"] if metrics for value in metrics.values())
    numbers = [[value for value in columns[field] if value is not None] for field in COUNTS]
    return (
        all(len(column) == count and set(map(type, column)) <= types[field] for field, column in columns.items())
        and len(set(columns["name"])) == count
        and all(0 <= min(column, default=0) and max(column, default=0) < MOST for column in numbers)
        and set(map(type, values)) <= {float}
        and ends == sorted(ends)
        and (ends[-1] if ends else 0) == size
        and (not ends or ends[0] >= 0)
        and type(highest) is int
        and max(columns["sequence"], default=0) <= highest < MOST >> 1
    )


def _exhaust(calls: Iterable[object]) -> None:
    deque(calls, maxlen=0)
