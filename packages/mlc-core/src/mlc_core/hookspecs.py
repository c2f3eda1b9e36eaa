"""What mlc-core asks plugins for, and what it tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import hookspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlc_core.protocols import RetentionPolicy, SaveStrategy, Serializer, Storage
    from mlc_core.records import Saved

# mypy: disable-error-code="empty-body"


@hookspec
def mlc_save_strategies() -> Mapping[str, Callable[..., SaveStrategy]]:
    """Offer answers to "when should this be saved?", by name."""


@hookspec
def mlc_retention_policies() -> Mapping[str, Callable[..., RetentionPolicy]]:
    """Offer answers to "what should be kept?", by name."""


@hookspec
def mlc_storages() -> Mapping[str, Callable[[str], Storage]]:
    """Offer places for checkpoints, by URL scheme; each factory takes the URL of one model's checkpoints."""


@hookspec
def mlc_serializers() -> Mapping[str, Callable[[], Serializer]]:
    """Offer file formats for tensors, by name."""


@hookspec
def mlc_checkpoint_saved(checkpoint: Saved, storage: Storage) -> None:
    """Hear of a checkpoint, once it is durable."""


@hookspec
def mlc_checkpoint_removed(checkpoint: Saved, storage: Storage, reason: str) -> None:
    """Hear that a checkpoint was removed, and why."""


@hookspec
def mlc_checkpoint_restored(checkpoint: Saved, storage: Storage) -> None:
    """Hear that a checkpoint was loaded."""
