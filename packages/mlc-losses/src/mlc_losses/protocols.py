"""What a loss is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

__all__ = ["Loss"]


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
