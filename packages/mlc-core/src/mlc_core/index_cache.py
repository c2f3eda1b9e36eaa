"""What was read from many manifests, in one file that may vanish at any time: the manifests stay the truth.

A row counts as long as its entry has the token it had. The digest finds accidents. Somebody who forges a cache gets no
further than somebody who forges manifests, and not as far: whoever loads a checkpoint reads its manifest again.
"""

from __future__ import annotations

from collections import deque
from itertools import starmap
from operator import attrgetter
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any

import orjson
import xxhash

from mlc_core import manifest
from mlc_core.collector import no_collection
from mlc_core.errors import CorruptCheckpointError
from mlc_core.records import Saved

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Cache", "decode_cache", "encode_cache", "place_of"]

CACHE_FORMAT = f"mlc-index/1 of {manifest.FORMAT}"
COUNT: set[type] = {int}
NUMBER: set[type] = {int, NoneType}
COLUMNS: dict[
    str, set[type]
] = {  # what retention and the index look at, and the types that it has; the rest is read when it is looked at
    "id": {str},
    "sequence": COUNT,
    "epoch": NUMBER,
    "step": NUMBER,
    "epoch_ended": {bool},
    "elapsed": {float},
    "metrics": {dict, NoneType},  # None: they are among the rest, because JSON has no word for one of them
}
COUNTS = ("sequence", "epoch", "step", "elapsed")
REST = tuple(field for field in manifest.FIELDS if field not in {"name", *COLUMNS} or field == "metrics")


class Cache:
    """What a cache says that was found to be whole: which entries there were, and the rest when it is asked for."""

    def __init__(self, head: Mapping[str, Any], columns: memoryview, rows: memoryview) -> None:
        self.places: dict[str, str] = dict(zip(head["name"], head["place"], strict=True))
        """The entries, in order of commit, with the part of their tokens that a glance tells."""
        self.highest: int = head["highest"]
        """The highest sequence number that was ever seen here."""
        self._columns = columns
        self._rows = rows

    def records(self) -> tuple[list[str], list[Saved]] | None:
        """Return the token and the record of each entry, or None if they cannot be believed.

        Setting one field of all records at a time is what makes it quick.
        """
        with no_collection():
            try:
                columns = orjson.loads(self._columns)
                if not _is_believable(columns, len(self._rows), self.places, self.highest):
                    return None
            except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
                return None
            made = Saved.folded(Rows(columns["end"], self._rows), len(self.places))
            _exhaust(map(Saved.name.__set__, made, self.places))  # type: ignore[attr-defined]
            for field in COLUMNS.keys() - {"metrics"}:
                _exhaust(map(getattr(Saved, field).__set__, made, columns[field]))
            metrics = zip(made, columns["metrics"], strict=True)
            known = ((one, MappingProxyType(found)) for one, found in metrics if found is not None)
            _exhaust(starmap(Saved.metrics.__set__, known))  # type: ignore[attr-defined]
            return columns["token"], made


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
            found = {field: manifest.FIELDS[field](facts[field]) for field in REST}
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
    names = [one.name for one in saved]
    places = [place_of(token) for token in columns["token"]]
    head = orjson.dumps({"name": names, "place": places, "highest": highest})
    body = orjson.dumps(columns)
    content = b"".join((head, body, *rows))
    digest = xxhash.xxh3_128_hexdigest(content)
    return orjson.dumps({"format": CACHE_FORMAT, "sizes": [len(head), len(body)], "digest": digest}) + b"\n" + content


def place_of(token: str) -> str:
    """Return the part of *token* that a glance tells."""
    return token.partition(".")[0]


def _row(saved: Saved) -> bytes | memoryview:
    rest = getattr(saved, "_rest", None)
    if isinstance(rest, Rows):
        return rest.raw(saved._position)  # noqa: SLF001 - the two are one thing in two modules
    facts = orjson.loads(manifest.encode_manifest(saved))
    return orjson.dumps({field: facts[field] for field in REST})


def _plain(metrics: Mapping[str, float]) -> dict[str, float] | None:
    return dict(metrics) if all(value - value == 0 for value in metrics.values()) else None  # neither NaN nor infinite


def decode_cache(data: bytes) -> Cache | None:
    """Return the cache in *data*, or None if it is torn, changed, of another format or not believable."""
    try:
        end = data.index(b"\n")
        facts = orjson.loads(data[:end])
        content = memoryview(data)[end + 1 :]
        if facts["format"] != CACHE_FORMAT or facts["digest"] != xxhash.xxh3_128_hexdigest(content):
            return None
        head, body = facts["sizes"]
        with no_collection():
            cache = Cache(orjson.loads(content[:head]), content[head : head + body], content[head + body :])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    types = {*map(type, cache.places), *map(type, cache.places.values())}
    return cache if types <= {str} and type(cache.highest) is int and 0 <= cache.highest < manifest.MOST >> 1 else None


def _is_believable(columns: Mapping[str, list[Any]], size: int, places: Mapping[str, str], highest: int) -> bool:
    """Say whether every column has what it should: a cache that was made to harm must not get further than this."""
    types: dict[str, set[type]] = {**COLUMNS, "token": {str}, "end": COUNT}
    if columns.keys() != types.keys() or any(type(column) is not list for column in columns.values()):
        return False
    ends, numbers = columns["end"], [[value for value in columns[field] if value is not None] for field in COUNTS]
    values = (value for metrics in columns["metrics"] if metrics for value in metrics.values())
    return (
        all(len(column) == len(places) for column in columns.values())
        and all(set(map(type, column)) <= types[field] for field, column in columns.items())
        and all(0 <= min(column, default=0) and max(column, default=0) < manifest.MOST for column in numbers)
        and set(map(type, values)) <= {float}
        and ends == sorted(ends)
        and 0 <= min(ends, default=0)
        and max(ends, default=0) == size
        and max(columns["sequence"], default=0) <= highest
    )


def _exhaust(calls: Iterable[object]) -> None:
    deque(calls, maxlen=0)
