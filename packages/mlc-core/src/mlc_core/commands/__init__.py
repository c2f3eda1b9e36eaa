"""`mlc checkpoints`: list, show and verify."""

from mlc_core.commands.group import checkpoints

__all__ = ["checkpoints"]
