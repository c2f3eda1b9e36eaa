"""What each rank needs of a sharded checkpoint, read from the mapped files into its tensors."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from mlc_core.distributed.tensors import dtype_of
from mlc_core.errors import ConfigurationError
from mlc_core.state.frameworks import bytes_to_tensor

if TYPE_CHECKING:
    import os

    from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem

    from mlc_core.distributed.layout import Chunk, PiecewiseTensor
    from mlc_core.distributed.opened import ShardedCheckpoint

__all__ = ["ShardedReader"]


class ShardedReader(StorageReader):
    """Reads *checkpoint*, for `torch.distributed.checkpoint.load` with a `ShardedLoadPlanner`.

    Each rank verifies the files that it reads, whole and once, before any rank copies anything: a corrupt file is
    found while the load is planned, so that all ranks raise and no tensor was touched.
    """

    def __init__(self, checkpoint: ShardedCheckpoint) -> None:
        self._checkpoint = checkpoint
        self._places: dict[MetadataIndex, tuple[PiecewiseTensor, Chunk]] = {}

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Refuse another name.

        Raises:
            ConfigurationError: If there is one: the checkpoint is open already.
        """
        if checkpoint_id is not None:
            msg = f"checkpoint_id={str(checkpoint_id)!r}: the reader has its checkpoint; leave it out"
            raise ConfigurationError(msg)

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return what the layout says, as torch knows it.

        Raises:
            CorruptCheckpointError: If it names a dtype that there is not.
        """
        found: dict[str, Any] = {}
        for item, tensors in self._checkpoint.layout.tensors.items():
            for name, tensor in tensors.items():
                full_name = f"{item}.{name}"
                chunks = [ChunkStorageMetadata(torch.Size(one.offsets), torch.Size(one.sizes)) for one in tensor.chunks]
                properties = TensorProperties(dtype=dtype_of(tensor.dtype))
                found[full_name] = TensorStorageMetadata(properties, torch.Size(tensor.shape), chunks)
                for one in tensor.chunks:
                    self._places[MetadataIndex(full_name, one.offsets)] = tensor, one
        return Metadata(found, planner_data=dict(self._checkpoint.trees))

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any  # noqa: FBT001 - torch's
    ) -> None:  # fmt: skip
        """Do nothing: it is open."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Verify the files that this rank will read.

        Raises:
            CorruptCheckpointError: If one is missing or changed.
        """
        self._checkpoint.verify({self._places[one.storage_index][1].file for one in plan.items})
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Return *plans* as they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copy what is needed; of a file that is long, only that is read from the disk, when it was not verified.

        Raises:
            CorruptCheckpointError: If a file does not hold what the layout says.
        """
        files: dict[str, list[ReadItem]] = defaultdict(list)
        for one in plan.items:
            files[self._places[one.storage_index][1].file].append(one)
        for file, items in files.items():
            pieces = self._checkpoint.pieces(file)
            for one in items:
                raw = self._checkpoint.piece(*self._places[one.storage_index], pieces)
                _copy(one, bytes_to_tensor(raw), planner)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:  # noqa: ARG003 - torch's
        """Refuse every one: see `reset`."""
        return False


def _copy(item: ReadItem, piece: torch.Tensor, planner: LoadPlanner) -> None:
    for axis, (begin, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
        piece = piece.narrow(axis, begin, length)
    target = planner.resolve_tensor(item).detach()
    target.copy_(piece)
    planner.commit_tensor(item, target)
