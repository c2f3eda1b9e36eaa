"""What a combined loss remembers of its components, for who weighs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

__all__ = ["Recorder"]


class Recorder(nn.Module):
    """The sums of the components' values since they were last cleared, on the device, in the widest type it has.

    Adding makes no host wait: a batch with a value that is not finite is left out, and counted, on the device too.

    Args:
        names: The components.
        like: A tensor with the device and dtype to start with; the device follows what is added.
    """

    sums: Tensor
    """The sum for each component, then how many batches were added, then how many were left out."""

    def __init__(self, names: Sequence[str], like: Tensor) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("sums", like.new_zeros(len(names) + 2), persistent=False)

    def add(self, values: Sequence[Tensor], share: float) -> None:
        """Add one batch that counts *share*: the values of the components, in order."""
        with torch.no_grad():
            wide = torch.promote_types(self.sums.dtype, torch.float32)  # who halves a loss does not mean its sums
            if (self.sums.device, self.sums.dtype) != (values[0].device, wide):
                self.sums = self.sums.to(values[0].device, wide)
            row = torch.stack([one.detach().to(self.sums.dtype).mean() for one in values]) * share
            good = torch.isfinite(row).all()
            counted = torch.stack([good, ~good]).to(self.sums.dtype) * share
            self.sums.add_(torch.cat([torch.where(good, row, 0), counted]))

    def clear(self) -> None:
        """Forget everything."""
        self.sums.zero_()

    def state(self) -> dict[str, Any]:
        """Return what was added, as plain data."""
        *sums, added, left_out = self.sums.tolist()
        return {"sums": dict(zip(self.names, sums, strict=True)), "added": added, "left_out": left_out}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        numbers = [*(state["sums"][name] for name in self.names), state["added"], state["left_out"]]
        self.sums.copy_(torch.tensor(numbers, dtype=torch.float64))
