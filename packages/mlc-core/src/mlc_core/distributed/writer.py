"""Every rank writes its own files into one staging; rank 0 describes them and commits."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import attrs
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import WriteItemType
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from mlc_core.catalogs import serializers
from mlc_core.distributed.layout import Chunk, Layout, PiecewiseTensor, encode_layout
from mlc_core.distributed.naming import SHARDED, shard_name
from mlc_core.distributed.tensors import as_bytes, code_of
from mlc_core.errors import ConfigurationError, StateError, StorageError
from mlc_core.naming import STATE
from mlc_core.protocols import JoinableStorage
from mlc_core.records import FileRecord
from mlc_core.state import ItemState, encode_document

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
    from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem

    from mlc_core.protocols import JoinableStaging, Staging, Storage, TensorBytes

__all__ = ["PlainItems", "ShardedWriter"]

SAFETENSORS = "safetensors"


@attrs.frozen(kw_only=True)
class PlainItems:
    """What this rank saves that is not in pieces."""

    states: Mapping[str, ItemState] = attrs.field(factory=dict)
    """By the name that each has in the checkpoint, no two ranks with the same one."""
    per_rank: tuple[str, ...] = ()
    """Items that every rank saves for itself, by their own names."""


@attrs.frozen
class _Place:
    """Where a rank writes."""

    token: str | None
    """None where there is only one."""
    rank: int


@attrs.frozen
class _Piece:
    """Where a piece of a tensor was written."""

    record: FileRecord
    key: str
    dtype: str


@attrs.frozen
class _Plain:
    """An item that is not in pieces, as it was written."""

    name: str
    tree: Any
    record: FileRecord | None
    """None where it has no tensors."""


class ShardedWriter(StorageWriter):
    """Writes one checkpoint to *storage*, for `torch.distributed.checkpoint.save` with a `ShardedSavePlanner`.

    Nothing is visible before *commit*, which rank 0 calls when all that the others wrote is durable. Whatever happens,
    `close` it.

    Args:
        storage: Where to. With several ranks it must be a `JoinableStorage` that all of them see.
        commit: Called with the staging, the items and the files; gives the checkpoint its name and makes it visible.
        plain: What this rank saves beside the state dict.
    """

    def __init__(
        self,
        storage: Storage,
        commit: Callable[[Staging, Sequence[str], Sequence[FileRecord]], object],
        *,
        plain: PlainItems | None = None,
    ) -> None:
        self._storage = storage
        self._commit = commit
        self._plain = plain or PlainItems()
        self._staging: Staging | None = None
        self._ranks = 1

    # ------------------------------------------------------------------ planning

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Refuse a name.

        Raises:
            ConfigurationError: If there is one: a checkpoint gets its name when it is committed.
        """
        if checkpoint_id is not None:
            msg = f"checkpoint_id={str(checkpoint_id)!r}: a checkpoint gets its name from what commits it; leave it out"
            raise ConfigurationError(msg)

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: FBT001 - torch's
        """Refuse a save that nobody coordinates.

        Raises:
            ConfigurationError: If the ranks are not to speak to each other.
        """
        if not kwargs.get("use_collectives", True):
            msg = "use_collectives=False: without rank 0 gathering what was written there is no commit; leave it out"
            raise ConfigurationError(msg)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Take only tensors.

        Raises:
            StateError: If something would be pickled.
        """
        pickled = [one.index.fqn for one in plan.items if one.type == WriteItemType.BYTE_IO]
        if pickled:
            msg = f"{', '.join(pickled[:5])}: values that are no tensors need planner=ShardedSavePlanner()"
            raise StateError(msg)
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Begin the staging, and tell every rank how to join it.

        Raises:
            ConfigurationError: If several processes cannot write to this storage together.
            DiskFullError: If there is certainly no room for all of it.
        """
        self._ranks = len(plans)
        if self._ranks > 1 and not (self._storage.capabilities.joins and isinstance(self._storage, JoinableStorage)):
            msg = f"{self._storage.url} cannot be written by several processes together; use a directory that all see"
            raise ConfigurationError(msg)
        self._staging = self._storage.stage(sum(_size(item) for plan in plans for item in plan.items))
        token = cast("JoinableStaging", self._staging).token if self._ranks > 1 else None
        return [replace(plan, storage_data=_Place(token, rank)) for rank, plan in enumerate(plans)]

    # ------------------------------------------------------------------ writing

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's files, durably.

        Raises:
            DiskFullError, StorageError: If there is no room or the storage fails.
        """
        place: _Place = plan.storage_data
        staging, joined = self._staging, None
        if staging is None:
            assert place.token is not None
            staging = joined = self._join(place.token)
        try:
            results = [*self._write_pieces(staging, place.rank, plan, planner), *self._write_plain(staging)]
        finally:
            if joined is not None:
                joined.discard()  # only takes leave
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def _join(self, token: str) -> Staging:
        try:
            return cast("JoinableStorage", self._storage).join(token)
        except StorageError as error:
            msg = f"{error}: what rank 0 staged cannot be seen here; {self._storage.url} must be the same for all ranks"
            raise StorageError(msg) from error

    def _write_pieces(self, staging: Staging, rank: int, plan: SavePlan, planner: SavePlanner) -> list[WriteResult]:
        form = serializers().make(SAFETENSORS)
        items: dict[str, dict[str, tuple[WriteItem, TensorBytes]]] = defaultdict(dict)
        for one in plan.items:
            item, _, name = one.index.fqn.partition(".")
            if _size(one):
                tensor = cast("torch.Tensor", planner.resolve_data(one))
                items[item][_key(name, one, items[item])] = one, as_bytes(tensor.detach(), one.index.fqn)
        results = []
        for item, pieces in items.items():
            size, content = form.dump({key: tensor for key, (_, tensor) in pieces.items()})
            file = shard_name(item, rank, form.suffix)
            digest = staging.write(file, size, content)
            record = FileRecord(name=file, size=size, xxh3_128=digest, serializer=SAFETENSORS, item=item)
            results += [
                WriteResult(one.index, _size(one), _Piece(record, key, tensor.dtype))
                for key, (one, tensor) in pieces.items()
            ]
        return results

    def _write_plain(self, staging: Staging) -> list[WriteResult]:
        form = serializers().make(SAFETENSORS)
        results = []
        for name, state in self._plain.states.items():
            record = None
            if state.tensors:
                size, content = form.dump(state.tensors)
                file = f"{name}{form.suffix}"
                digest = staging.write(file, size, content)
                record = FileRecord(name=file, size=size, xxh3_128=digest, serializer=SAFETENSORS, item=name)
            results.append(
                WriteResult(MetadataIndex(name), record.size if record else 0, _Plain(name, state.tree, record))
            )
        return results

    # ------------------------------------------------------------------ committing

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Describe what all ranks wrote, and commit.

        Raises:
            StorageError: If that failed.
        """
        assert self._staging is not None
        told = [one.storage_data for several in results for one in several]
        plain = [one for one in told if isinstance(one, _Plain)]
        pieces = {one.index: one.storage_data for several in results for one in several}
        layout = _describe(metadata, pieces, self._ranks, self._plain.per_rank)
        trees: dict[str, Any] = metadata.planner_data
        states = {item: ItemState(tree, {}) for item, tree in trees.items()}
        states |= {one.name: ItemState(one.tree, {}) for one in plain}
        records = {one.record.name: one.record for one in told if one.record is not None}
        documents = {STATE: encode_document(states), SHARDED: encode_layout(layout)}
        for file, document in documents.items():
            digest = self._staging.write(file, len(document), [document])
            records[file] = FileRecord(name=file, size=len(document), xxh3_128=digest, serializer="json")
        self._commit(self._staging, tuple(states), tuple(records[file] for file in sorted(records)))

    def close(self) -> None:
        """Discard what was not committed. To be called by every rank, at the end."""
        if self._staging is not None:
            self._staging.discard()
            self._staging = None

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:  # noqa: ARG003 - torch's
        """Refuse every one: see `reset`."""
        return False


def _size(item: WriteItem) -> int:
    data = item.tensor_data
    return 0 if data is None else math.prod(data.chunk.sizes) * data.properties.dtype.itemsize


def _key(name: str, item: WriteItem, taken: Mapping[str, object]) -> str:
    """Return what a piece is called in its file: the tensor's name if it is whole, else with where it begins."""
    data = item.tensor_data
    assert data is not None
    whole = tuple(data.chunk.sizes) == tuple(data.size)
    key = name if whole else f"{name}@{'.'.join(map(str, data.chunk.offsets))}"
    while key in taken or key == "__metadata__":  # the part of a header that is no tensor
        key += "#"
    return key


def _describe(
    metadata: Metadata, pieces: Mapping[MetadataIndex, _Piece], ranks: int, per_rank: tuple[str, ...]
) -> Layout:
    tensors: dict[str, dict[str, PiecewiseTensor]] = {item: {} for item in metadata.planner_data}
    for full_name, found in metadata.state_dict_metadata.items():
        facts = cast("TensorStorageMetadata", found)
        item, _, name = full_name.partition(".")
        chunks = []
        for one in facts.chunks:
            piece = pieces.get(MetadataIndex(full_name, one.offsets))
            if piece is not None:  # what is empty was not written
                chunks.append(Chunk(tuple(one.offsets), tuple(one.sizes), piece.record.name, piece.key))
        code = code_of(facts.properties.dtype)
        tensors[item][name] = PiecewiseTensor(code, tuple(facts.size), tuple(chunks))
    return Layout(ranks=ranks, tensors=tensors, per_rank=per_rank)
