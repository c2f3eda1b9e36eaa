"""Several processes that train one model: who they are, what each of them loads, and how they stay together."""

from mlc_trainer.distributed.pieces import Cut
from mlc_trainer.distributed.world import ALONE, World, join_world, leaving, require_one_process

__all__ = ["ALONE", "Cut", "World", "join_world", "leaving", "require_one_process"]
