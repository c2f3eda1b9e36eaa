"""The file `sharded.json`: which piece of which tensor lies where. Needs no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs
import orjson

from mlc_core.distributed.naming import SHARDED
from mlc_core.errors import CorruptCheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlc_core.records import FileRecord

__all__ = ["Chunk", "Layout", "PiecewiseTensor", "decode_layout", "encode_layout"]

FORMAT = "mlc-sharded/1"
MOST_AXES = 64  # what torch can hold


@attrs.frozen
class Chunk:
    """A box of a tensor's elements, and where they are."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    key: str
    """Its name in the file."""

    @property
    def volume(self) -> int:
        """How many elements it has."""
        return math.prod(self.sizes)


@attrs.frozen
class PiecewiseTensor:
    """A tensor as a whole, and the pieces it is stored in: each element in exactly one of them."""

    dtype: str
    """As safetensors spells it."""
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


@attrs.frozen(kw_only=True)
class Layout:
    """What the ranks that saved together wrote."""

    ranks: int
    """How many they were."""
    tensors: Mapping[str, Mapping[str, PiecewiseTensor]]
    """The tensors of each item that is stored in pieces, by name."""
    per_rank: tuple[str, ...] = ()
    """Items that every rank saved for itself, because they differed: `rng` is `rng_rank00000`, `rng_rank00001`, …"""


def encode_layout(layout: Layout) -> bytes:
    """Return the document of *layout*."""
    tensors = {
        item: {
            name: {**_fields(tensor), "chunks": [_fields(one) for one in tensor.chunks]}
            for name, tensor in named.items()
        }
        for item, named in layout.tensors.items()
    }
    return orjson.dumps({"format": FORMAT, **_fields(layout), "tensors": tensors})


def _fields(record: Any) -> dict[str, Any]:
    return attrs.asdict(record, recurse=False)


def decode_layout(data: bytes | memoryview, files: Iterable[FileRecord], where: str) -> Layout:
    """Return what *data* says, where *files* are those of the manifest.

    Raises:
        CorruptCheckpointError: If it is not such a document, names a file that is not listed for its item, or has a
            tensor whose pieces overlap, leave a hole, or lie outside of it.
    """
    owners = {one.name: one.item for one in files}
    try:
        facts = orjson.loads(data)
        _expect(
            facts["format"] == FORMAT, f"its format is {str(facts['format'])[:40]!r}, this version reads {FORMAT!r}"
        )
        ranks = _count(facts["ranks"])
        _expect(ranks > 0, "it was saved by nobody")
        tensors = {}
        for item, named in _mapping(facts["tensors"]).items():
            tensors[item] = {name: _tensor(name, facts) for name, facts in _mapping(named).items()}
            _check_files(item, tensors[item], owners)
        return Layout(ranks=ranks, tensors=tensors, per_rank=tuple(_text(one) for one in _list(facts["per_rank"])))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        cause = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) and error.args else str(error)
        msg = f"{where}/{SHARDED} cannot be believed: {cause}"
        raise CorruptCheckpointError(msg) from error


def _check_files(item: str, tensors: Mapping[str, PiecewiseTensor], owners: Mapping[str, str | None]) -> None:
    taken = set()
    for name, tensor in tensors.items():
        for chunk in tensor.chunks:
            _expect(
                owners.get(chunk.file) == item, f"{name!r} lies in {chunk.file[:80]!r}, which is no file of {item!r}"
            )
            _expect((chunk.file, chunk.key) not in taken, f"{chunk.key!r} of {chunk.file} is used twice")
            taken.add((chunk.file, chunk.key))


def _tensor(name: str, facts: Any) -> PiecewiseTensor:
    shape = _counts(facts["shape"])
    _expect(len(shape) <= MOST_AXES, f"{name!r} has {len(shape)} axes")
    chunks = tuple(
        Chunk(_counts(one["offsets"]), _counts(one["sizes"]), _text(one["file"]), _text(one["key"]))
        for one in _list(facts["chunks"])
    )
    for chunk in chunks:
        inside = len(chunk.offsets) == len(chunk.sizes) == len(shape) and all(
            0 < size <= end - begin for begin, size, end in zip(chunk.offsets, chunk.sizes, shape, strict=True)
        )
        _expect(inside, f"a piece of {name!r} at {chunk.offsets} of {chunk.sizes} is not inside of {shape}")
    held = sum(chunk.volume for chunk in chunks)
    _expect(held == math.prod(shape), f"the pieces of {name!r} hold {held} elements of {math.prod(shape)}")
    _expect(not _overlap(chunks), f"pieces of {name!r} overlap")
    return PiecewiseTensor(_text(facts["dtype"]), shape, chunks)


def _overlap(chunks: tuple[Chunk, ...]) -> bool:
    """Say whether two of *chunks* share an element; those side by side along the best axis are never compared."""
    if len(chunks) < 2 or not chunks[0].sizes:
        return len(chunks) > 1
    axis = max(range(len(chunks[0].sizes)), key=lambda one: len({chunk.offsets[one] for chunk in chunks}))
    active: list[Chunk] = []
    for chunk in sorted(chunks, key=lambda one: one.offsets[axis]):
        active = [one for one in active if one.offsets[axis] + one.sizes[axis] > chunk.offsets[axis]]
        if any(_touch(one, chunk) for one in active):
            return True
        active.append(chunk)
    return False


def _touch(one: Chunk, other: Chunk) -> bool:
    spans = zip(one.offsets, one.sizes, other.offsets, other.sizes, strict=True)
    return all(begin < start + length and start < begin + size for begin, size, start, length in spans)


# ---------------------------------------------------------------------- one reader for each type


def _expect(truth: bool, msg: str) -> None:  # noqa: FBT001 - it is the fact that is looked at
    if not truth:
        raise ValueError(msg)


def _text(value: Any) -> str:
    _expect(type(value) is str, f"{str(value)[:80]!r} is no text")
    return str(value)


def _count(value: Any) -> int:
    _expect(type(value) is int and 0 <= value < 2**63, f"{str(value)[:80]!r} is no count")
    return int(value)


def _list(value: Any) -> list[Any]:
    _expect(type(value) is list, f"{str(value)[:80]!r} is no list")
    return list(value)


def _counts(value: Any) -> tuple[int, ...]:
    return tuple(_count(one) for one in _list(value))


def _mapping(value: Any) -> dict[str, Any]:
    _expect(type(value) is dict, f"{str(value)[:80]!r} is no mapping")
    return dict(value)
