"""The losses, and the schedules of their weights, that can be had by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import Catalog, shared

if TYPE_CHECKING:
    from mlc_losses.protocols import Loss, LossSchedule

__all__ = ["loss_schedules", "losses"]


def loss_schedules() -> Catalog[LossSchedule]:
    """Return the catalog of schedules of a combined loss's weights: ours, and those of the plugins."""
    return Catalog("loss schedule", hook="mlc_loss_schedules", home="mlc_losses", plugins=shared())


def losses() -> Catalog[Loss]:
    """Return the catalog of losses: ours, and those of the plugins that are installed."""
    return Catalog("loss", hook="mlc_losses", home="mlc_losses", plugins=shared())
