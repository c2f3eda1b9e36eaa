"""Two checkpoints held against each other, tensor by tensor, without torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import attrs

from mlc_core.naming import STATE
from mlc_core.reader import CheckpointReader
from mlc_core.state import decode_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core.protocols import Buffer, TensorBytes
    from mlc_core.records import Saved

__all__ = ["Change", "Difference", "ItemDifference", "TensorDifference", "compare"]

CHUNK = 1 << 20  # elements or bytes; what is compared at a time stays small beside the tensor
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
Verdict = Literal["equal", "changed", "shape", "dtype", "only in A", "only in B"]


@attrs.frozen(kw_only=True)
class Change:
    """By how much the elements of a tensor differ."""

    largest: float
    mean: float
    """Of the absolute changes."""


@attrs.frozen(kw_only=True)
class TensorDifference:
    """One tensor on both sides."""

    name: str
    verdict: Verdict
    before: tuple[str, tuple[int, ...]] | None
    """Dtype and shape in A."""
    after: tuple[str, tuple[int, ...]] | None
    change: Change | None = None
    """None for what is no float, and without NumPy."""


@attrs.frozen(kw_only=True)
class ItemDifference:
    """One item, as `model`."""

    name: str
    verdict: Literal["equal", "changed", "only in A", "only in B"]
    values_equal: bool = True
    """Whether everything in it that is no tensor is equal."""
    tensors: tuple[TensorDifference, ...] = ()


@attrs.frozen(kw_only=True)
class Difference:
    """All that A and B do not share."""

    metrics: Mapping[str, tuple[float | None, float | None]]
    items: tuple[ItemDifference, ...]

    @property
    def same(self) -> bool:
        """Whether metrics and items are equal; when and why each was saved does not count."""
        metrics = all(_is_same(a, b) for a, b in self.metrics.values())
        return metrics and all(one.verdict == "equal" for one in self.items)


def compare(before: CheckpointReader, after: CheckpointReader) -> Difference:
    """Return what differs between two checkpoints.

    Raises:
        CorruptCheckpointError: If a file that has to be read is missing or changed.
    """
    a, b = before.saved, after.saved
    metrics = {name: (a.metrics.get(name), b.metrics.get(name)) for name in dict.fromkeys([*a.metrics, *b.metrics])}
    trees = (_trees(before), _trees(after)) if _digests(a, None) != _digests(b, None) else ({}, {})
    items = []
    for name in dict.fromkeys([*a.items, *b.items]):
        if name not in b.items or name not in a.items:
            items.append(ItemDifference(name=name, verdict="only in A" if name in a.items else "only in B"))
            continue
        values_equal = trees[0].get(name) == trees[1].get(name)
        items.append(_compare_item(name, before, after, values_equal=values_equal))
    return Difference(metrics=metrics, items=tuple(items))


def _is_same(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))


def _digests(saved: Saved, item: str | None) -> Sequence[tuple[str, str]]:
    return sorted((one.name, one.xxh3_128) for one in saved.files if one.item == item)


def _trees(reader: CheckpointReader) -> Mapping[str, object]:
    files = tuple(one for one in reader.saved.files if one.item is None)
    CheckpointReader(reader.storage, attrs.evolve(reader.saved, files=files)).verify()
    return decode_document(reader.storage.read(reader.saved.name, STATE))


def _compare_item(
    name: str, before: CheckpointReader, after: CheckpointReader, *, values_equal: bool
) -> ItemDifference:
    if _digests(before.saved, name) == _digests(after.saved, name):
        return ItemDifference(name=name, verdict="equal" if values_equal else "changed", values_equal=values_equal)
    a, b = before.raw_tensors(name), after.raw_tensors(name)
    tensors = tuple(_compare_tensor(one, a.get(one), b.get(one)) for one in dict.fromkeys([*a, *b]))
    equal = values_equal and all(one.verdict == "equal" for one in tensors)
    verdict: Literal["equal", "changed"] = "equal" if equal else "changed"
    return ItemDifference(name=name, verdict=verdict, values_equal=values_equal, tensors=tensors)


def _compare_tensor(name: str, a: TensorBytes | None, b: TensorBytes | None) -> TensorDifference:
    before, after = ((one.dtype, one.shape) if one else None for one in (a, b))
    verdict: Verdict
    change = None
    if a is None or b is None:
        verdict = "only in B" if a is None else "only in A"
    elif a.shape != b.shape:
        verdict = "shape"
    elif a.dtype != b.dtype:
        verdict = "dtype"
    elif _is_equal(a.data, b.data):
        verdict = "equal"
    else:
        verdict, change = "changed", _measure(a, b)
    return TensorDifference(name=name, verdict=verdict, before=before, after=after, change=change)


def _is_equal(a: Buffer, b: Buffer) -> bool:
    """Compare by pieces: two views are compared element by element, two pieces of bytes at the speed of memory."""
    x, y = memoryview(a).cast("B"), memoryview(b).cast("B")
    if len(x) != len(y):
        return False
    return all(bytes(x[begin : begin + CHUNK]) == bytes(y[begin : begin + CHUNK]) for begin in range(0, len(x), CHUNK))


def _measure(a: TensorBytes, b: TensorBytes) -> Change | None:
    if a.dtype not in {*FLOATS, "BF16"}:
        return None
    try:
        import numpy as np
    except ImportError:
        return None
    size = math.prod(a.shape)
    largest, total = 0.0, 0.0
    for begin in range(0, size, CHUNK):
        count = min(CHUNK, size - begin)
        pair = []
        for one in (a, b):
            if one.dtype == "BF16":  # the upper half of a 32-bit float
                words = np.frombuffer(one.data, "<u2", count, begin * 2).astype(np.uint32) << 16
                pair.append(words.view(np.float32).astype(np.float64))
            else:
                kind = np.dtype(FLOATS[one.dtype])
                pair.append(np.frombuffer(one.data, kind, count, begin * kind.itemsize).astype(np.float64))
        x, y = pair
        with np.errstate(invalid="ignore", over="ignore"):
            distance = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(y - x))
            largest = float(np.maximum(largest, distance.max()))  # keeps NaN, which max() would lose
            total += float(distance.sum())
    return Change(largest=largest, mean=total / size)
