"""Checkpoints that several processes write and read together; needs torch, which is why it is imported by name."""

from typing import TYPE_CHECKING

from mlc_hooks.lazy import lazy_exports

if TYPE_CHECKING:
    from mlc_core.distributed.loading import load_sharded
    from mlc_core.distributed.manager import DistributedCheckpointManager
    from mlc_core.distributed.opened import ShardedCheckpoint, open_sharded
    from mlc_core.distributed.planners import ShardedLoadPlanner, ShardedSavePlanner
    from mlc_core.distributed.reader import ShardedReader
    from mlc_core.distributed.writer import ShardedWriter

__all__ = [
    "DistributedCheckpointManager",
    "ShardedCheckpoint",
    "ShardedLoadPlanner",
    "ShardedReader",
    "ShardedSavePlanner",
    "ShardedWriter",
    "load_sharded",
    "open_sharded",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "loading": "load_sharded",
        "manager": "DistributedCheckpointManager",
        "opened": "ShardedCheckpoint open_sharded",
        "planners": "ShardedLoadPlanner ShardedSavePlanner",
        "reader": "ShardedReader",
        "writer": "ShardedWriter",
    },
)
