"""The hooks that losses, and schedules of their weights, come through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import hookspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlc_losses.protocols import Loss, LossSchedule


@hookspec
def mlc_losses() -> Mapping[str, Callable[..., Loss]]:  # type: ignore[empty-body]
    """Offer losses, by the name that configuration dictionaries use.

    Each factory takes the loss's options by keyword and returns a `torch.nn.Module` that fits `Loss`. Import torch
    inside the factory. A factory that can work on probabilities takes `from_logits`, one that takes several channels
    takes `mode`: a combined loss hands on what its configuration says about them.
    """


@hookspec
def mlc_loss_schedules() -> Mapping[str, Callable[..., LossSchedule]]:  # type: ignore[empty-body]
    """Offer schedules of a combined loss's weights, by the name that configuration dictionaries use as `type`.

    Each factory takes the schedule's options by keyword and returns a `LossSchedule`, fresh: it is asked once for every
    scheduler.
    """
