"""How to compare: a region's mistakes by a price list, against what the region is worth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlc_losses import LossConfigError


class PricedOverlap(nn.Module):
    """`price / (price + Σt + 1)` of each channel of each sample, then the mean over those with a voxel that counts.

    The price is `missed · Σ t·(1-p) + invented · Σ (1-t)·p`.

    Args:
        missed: The price of foreground that was not found.
        invented: The price of foreground that is not there.
        from_logits: Whether *pred* is logits, or probabilities.
        mode: "binary" or "multilabel": each channel is judged by itself.

    Raises:
        LossConfigError: If *mode* is another.
    """

    def __init__(self, *, missed: float, invented: float, from_logits: bool = True, mode: str = "binary") -> None:
        super().__init__()
        if mode == "multiclass":
            msg = "priced_overlap judges each channel by itself; give mode='binary' or 'multilabel'"
            raise LossConfigError(msg)
        self.missed = missed
        self.invented = invented
        self.from_logits = from_logits
        self.mode = mode

    def forward(
        self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss of *pred* against *target*, `(B, C, *spatial)` each, where *mask* is true, by *weight*."""
        pred = pred.to(torch.promote_types(pred.dtype, torch.float32))  # float16 cannot count a volume
        w = torch.ones_like(pred) if weight is None else weight.to(pred.dtype).expand_as(pred)
        w = w if mask is None else torch.where(mask, w, 0.0)
        p = torch.where(w > 0, pred, 0.0)  # chosen, not multiplied: 0 * NaN is NaN
        t = torch.where(w > 0, target.to(pred.dtype), 0.0)
        p = p.sigmoid() if self.from_logits else p
        axes = tuple(range(2, pred.dim()))
        price = (w * (self.missed * t * (1 - p) + self.invented * (1 - t) * p)).sum(axes)
        costs = price / (price + (w * t).sum(axes) + 1)
        return costs.sum() / (w.sum(axes) > 0).sum().clamp(min=1)

    def explain(self) -> str:
        """Return the formula with its numbers."""
        price = f"{self.missed:g}·Σ t·(1-p) + {self.invented:g}·Σ (1-t)·p"
        return f"Priced overlap loss = price / (price + Σt + 1), price = {price}"
