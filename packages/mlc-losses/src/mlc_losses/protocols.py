"""What a loss is, and what decides the weights of a combination of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from mlc_losses.records import LossMoment

__all__ = ["Loss", "LossSchedule"]


class Loss(Protocol):
    """A `torch.nn.Module` that compares a prediction with a target, and can say how.

    Only what callers use is spelled out here; a plugin's loss derives from `torch.nn.Module`, so that its buffers
    travel with the model's, and from nothing of ours. `mlc_losses.testing.LossContract` checks the rest.
    """

    def __call__(
        self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss of *pred* against *target*, a 0-dim tensor with a graph.

        Args:
            pred: `(B, C, *spatial)`, any floating dtype.
            target: The shape of *pred*: 0 and 1 of any dtype, or fractions between them; or class numbers
                `(B, *spatial)`, where the loss takes those.
            mask: `(B, 1, *spatial)` or the shape of *pred*, bool, true where a voxel counts. What it leaves out has no
                influence, whatever it holds; where it leaves out everything the loss is 0.
            weight: The same shapes, floating point, at least 0: a voxel of weight 2 counts as two such voxels.
        """

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return what a resumed run needs, as `torch.nn.Module` does."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> object:
        """Take over what `state_dict` returned, as `torch.nn.Module` does."""

    def to(self, device: str | torch.device) -> object:
        """Move to *device*, in place, as `torch.nn.Module` does."""


class LossSchedule(Protocol):
    """What decides the weights of a combined loss, moment by moment.

    It holds no loss and no tensor: all it goes by is what it is told and what it remembers, and what it remembers is
    plain data. `LossScheduler` asks it, writes the weights and keeps what all schedules have in common.
    `mlc_losses.testing.ScheduleContract` checks the rest.
    """

    @property
    def name(self) -> str:
        """What configurations call it; a saved state is only loaded by a schedule of the same name."""

    @property
    def needs_losses(self) -> bool:
        """Whether it decides by the values of the components."""

    @property
    def keeps_sum(self) -> bool:
        """Whether the weights it decides on always add up to what the base weights add up to."""

    @property
    def learns(self) -> bool:
        """Whether the weights are parameters, which an optimizer moves and this only reports."""

    def start(self, base: Mapping[str, float]) -> None:
        """Hear the weights by component that the loss begins with, before the first moment.

        Raises:
            LossConfigError: If they do not go with its options.
        """

    def decide(self, moment: LossMoment) -> Mapping[str, float] | None:
        """Return the weight of every component from now on, or `None` if this moment says nothing that is finite.

        Raises:
            LossConfigError: If *moment* lacks what it decides by.
        """

    def options(self) -> Mapping[str, Any]:
        """Return the options it was made with, as JSON has them."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return what it remembers, as JSON has it."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
