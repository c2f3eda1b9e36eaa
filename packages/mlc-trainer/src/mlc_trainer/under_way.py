"""A save in the background: what it is of, and whether it is durable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs

from mlc_core import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.background import Saving
    from mlc_core.distributed import DistributedCheckpointManager
    from mlc_trainer.engine import Position

__all__ = ["Checkpoints", "SaveUnderWay", "look", "settle", "take_durable"]


@attrs.frozen
class SaveUnderWay:
    """A save that has begun; training goes on meanwhile."""

    saving: Saving
    position: Position
    """Where training stood."""


class Checkpoints(Protocol):
    """What keeps account of the saves of a loop: of one that is ours, or of its user's."""

    manager: CheckpointManager | DistributedCheckpointManager
    at: str | None
    """The name of what was saved last."""
    source: Path | str | None
    """The same, wherever it lies."""
    under_way: SaveUnderWay | None
    """What is being saved in the background."""
    untold: list[tuple[Position, str]]
    """What was saved in the background, and nobody was told of yet."""


def look(checkpoints: Checkpoints) -> None:
    """Take note of a save that has become durable since, or of what went wrong; wait for nothing.

    Raises:
        DiskFullError, StorageError, …: As a save that is waited for, for what was to be saved.
    """
    if checkpoints.under_way is not None and checkpoints.under_way.saving.durable.done():
        settle(checkpoints)


def settle(checkpoints: Checkpoints) -> None:
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


def take_durable(checkpoints: Checkpoints) -> Sequence[tuple[Position, str]]:
    """Return what became durable in the background and was not told yet: where training stood, and where it lies."""
    found, checkpoints.untold = checkpoints.untold, []
    return found
