"""`mlc checkpoints`: look, mend, keep and compare."""

from mlc_core.commands.group import checkpoints

__all__ = ["checkpoints"]
