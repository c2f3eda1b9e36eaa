"""What mlc-core tells, as typed functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import shared

if TYPE_CHECKING:
    from mlc_core.protocols import Storage
    from mlc_core.records import Saved

__all__ = ["checkpoint_removed", "checkpoint_restored", "checkpoint_saved"]


def checkpoint_saved(checkpoint: Saved, storage: Storage) -> None:
    """Tell that *checkpoint* is durable."""
    shared().tell("mlc_checkpoint_saved", checkpoint=checkpoint, storage=storage)


def checkpoint_removed(checkpoint: Saved, storage: Storage, reason: str) -> None:
    """Tell that *checkpoint* was removed, and why."""
    shared().tell("mlc_checkpoint_removed", checkpoint=checkpoint, storage=storage, reason=reason)


def checkpoint_restored(checkpoint: Saved, storage: Storage) -> None:
    """Tell that *checkpoint* was loaded."""
    shared().tell("mlc_checkpoint_restored", checkpoint=checkpoint, storage=storage)
