"""A save in the background: what it is of, and whether it is durable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from mlc_core import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.background import Saving
    from mlc_trainer.engine import Position
    from mlc_trainer.saving import RunCheckpoints

__all__ = ["SaveUnderWay", "look", "settle", "take_durable"]


@attrs.frozen
class SaveUnderWay:
    """A save that has begun; training goes on meanwhile."""

    saving: Saving
    position: Position
    """Where training stood."""


def look(checkpoints: RunCheckpoints) -> None:
    """Take note of a save that has become durable since, or of what went wrong; wait for nothing.

    Raises:
        DiskFullError, StorageError, …: As `RunCheckpoints.save`, for what was to be saved.
    """
    if checkpoints.under_way is not None and checkpoints.under_way.saving.durable.done():
        settle(checkpoints)


def settle(checkpoints: RunCheckpoints) -> None:
    """Wait until what is saved in the background is durable.

    Raises:
        DiskFullError, StorageError, …: As `look`.
    """
    one = checkpoints.under_way
    if one is None:
        return
    checkpoints.under_way = None
    manager = checkpoints.manager
    assert isinstance(manager, CheckpointManager)  # that of several processes saves nothing in the background
    manager.wait()
    location = one.saving.durable.result()
    checkpoints.source = checkpoints.at = Path(str(location)).name
    checkpoints.untold.append((one.position, str(location)))


def take_durable(checkpoints: RunCheckpoints) -> Sequence[tuple[Position, str]]:
    """Return what became durable in the background and was not told yet: where training stood, and where it lies."""
    found, checkpoints.untold = checkpoints.untold, []
    return found
