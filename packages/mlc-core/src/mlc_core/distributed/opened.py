"""A sharded checkpoint, opened: its layout believed after it was checked, its pieces to be had. Needs no torch."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.catalogs import serializers
from mlc_core.distributed.layout import decode_layout
from mlc_core.distributed.naming import SHARDED, rank_name
from mlc_core.distributed.trees import names_in
from mlc_core.errors import CorruptCheckpointError, MismatchError
from mlc_core.naming import STATE
from mlc_core.protocols import TensorBytes
from mlc_core.reader import CheckpointReader, open_checkpoint
from mlc_core.state import decode_document

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from mlc_core.distributed.layout import Chunk, Layout, PiecewiseTensor

__all__ = ["ShardedCheckpoint", "open_sharded"]


@attrs.frozen
class ShardedCheckpoint:
    """A checkpoint with tensors in pieces."""

    reader: CheckpointReader
    layout: Layout
    trees: Mapping[str, Any]
    """The typed JSON of each item, with references to its tensors by name."""
    verifies: bool

    @classmethod
    def read(cls, reader: CheckpointReader, *, verify: bool = True) -> ShardedCheckpoint:
        """Read what the checkpoint of *reader* says about itself; tensors are read later.

        Raises:
            CorruptCheckpointError: If that is missing, changed or made to harm.
            MismatchError: If it is no sharded checkpoint.
        """
        if not reader.is_sharded:
            msg = f"{reader.location} holds no {SHARDED}: it was saved by one process; load it with CheckpointManager"
            raise MismatchError(msg)
        if verify:
            _verify(reader, {SHARDED, STATE})
        layout = decode_layout(_read(reader, SHARDED), reader.saved.files, str(reader.location))
        trees = decode_document(_read(reader, STATE))
        for item, tensors in layout.tensors.items():
            if item not in reader.saved.items or _names(trees.get(item)) != set(tensors):
                msg = f"{reader.location}: the manifest, {STATE} and {SHARDED} say different things of {item[:80]!r}"
                raise CorruptCheckpointError(msg)
        many = layout.ranks * len(layout.per_rank) > len(reader.saved.items)  # before so many names are made
        if many or not _names_of_ranks(layout) <= set(reader.saved.items):
            msg = f"{reader.location}: {SHARDED} says that each of {layout.ranks} ranks has items that are not there"
            raise CorruptCheckpointError(msg)
        return cls(reader, layout, trees, verify)

    @property
    def plain(self) -> tuple[str, ...]:
        """The items that are not in pieces and that all ranks have in common."""
        others = _names_of_ranks(self.layout) | set(self.layout.tensors)
        return tuple(item for item in self.reader.saved.items if item not in others)

    def verify(self, files: Collection[str]) -> None:
        """Hold *files*, whole, against the manifest, unless it was opened without.

        Raises:
            CorruptCheckpointError: At the first one that is missing or changed.
        """
        if self.verifies:
            _verify(self.reader, files)

    def pieces(self, file: str) -> Mapping[str, TensorBytes]:
        """Return what lies in *file*, mapped: what is not looked at is not read.

        Raises:
            CorruptCheckpointError: If it is missing or no such file.
        """
        record = next(one for one in self.reader.saved.files if one.name == file)
        try:
            return serializers().make(record.serializer).load(_read(self.reader, file))
        except ValueError as error:
            msg = f"{self.reader.location}/{file}: {error}"
            raise CorruptCheckpointError(msg) from error

    def piece(self, tensor: PiecewiseTensor, chunk: Chunk, pieces: Mapping[str, TensorBytes]) -> TensorBytes:
        """Return the *chunk* of *tensor* among the *pieces* of its file.

        Raises:
            CorruptCheckpointError: If it is not there, or is not what the layout says.
        """
        raw = pieces.get(chunk.key)
        if raw is None or (raw.dtype, raw.shape) != (tensor.dtype, chunk.sizes):
            found = "nothing" if raw is None else f"{raw.dtype} of {raw.shape}"
            msg = (
                f"{self.reader.location}/{chunk.file} holds {found} as {chunk.key!r} where {SHARDED} says "
                f"{tensor.dtype} of {chunk.sizes}"
            )
            raise CorruptCheckpointError(msg)
        return raw

    def whole(self, item: str) -> Mapping[str, TensorBytes]:
        """Return the tensors of *item*, each put together from its pieces.

        Raises:
            CorruptCheckpointError: If a file is missing or changed.
        """
        tensors = self.layout.tensors[item]
        files = sorted({chunk.file for tensor in tensors.values() for chunk in tensor.chunks})
        self.verify(files)
        pieces = {file: self.pieces(file) for file in files}
        return {
            name: _assemble(tensor, [self.piece(tensor, chunk, pieces[chunk.file]) for chunk in tensor.chunks])
            for name, tensor in tensors.items()
        }


def open_sharded(path: Path | str, *, verify: bool = True) -> ShardedCheckpoint:
    """Open the sharded checkpoint at *path*.

    Raises:
        CheckpointNotFoundError: If there is none.
        CorruptCheckpointError: If it is not the one that was committed.
        MismatchError: If it is no sharded checkpoint.
    """
    return ShardedCheckpoint.read(open_checkpoint(path), verify=verify)


def _names(tree: Any) -> set[str] | None:
    try:
        return set(names_in(tree))
    except RecursionError:
        return None


def _names_of_ranks(layout: Layout) -> set[str]:
    return {rank_name(item, rank) for item in layout.per_rank for rank in range(layout.ranks)}


def _verify(reader: CheckpointReader, files: Collection[str]) -> None:
    records = tuple(one for one in reader.saved.files if one.name in files)
    CheckpointReader(reader.storage, attrs.evolve(reader.saved, files=records)).verify()


def _read(reader: CheckpointReader, file: str) -> memoryview:
    try:
        return reader.storage.read(reader.saved.name, file)
    except FileNotFoundError as error:
        msg = f"{reader.location}/{file} is missing; restore it from a copy or load another checkpoint"
        raise CorruptCheckpointError(msg) from error


def _assemble(tensor: PiecewiseTensor, raws: list[TensorBytes]) -> TensorBytes:
    if len(raws) == 1:
        return raws[0]
    width = sum(len(raw.data) for raw in raws) // max(math.prod(tensor.shape), 1)
    whole = memoryview(bytearray(math.prod(tensor.shape) * width))
    for chunk, raw in zip(tensor.chunks, raws, strict=True):
        _copy(memoryview(raw.data), chunk, whole, tensor.shape, width)
    return TensorBytes(tensor.dtype, tensor.shape, whole)


def _copy(data: memoryview, chunk: Chunk, whole: memoryview, shape: tuple[int, ...], width: int) -> None:
    """Copy the elements of *chunk* to their places, as many at once as lie side by side."""
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    split = len(shape)
    while split > 0 and (split == len(shape) or chunk.sizes[split] == shape[split]):
        split -= 1
    run = math.prod(chunk.sizes[split:]) * width
    begin = sum(offset * step for offset, step in zip(chunk.offsets, steps, strict=True))
    for row, place in enumerate(itertools.product(*(range(size) for size in chunk.sizes[:split]))):
        at = (begin + sum(one * step for one, step in zip(place, steps, strict=False))) * width
        whole[at : at + run] = data[row * run : (row + 1) * run]
