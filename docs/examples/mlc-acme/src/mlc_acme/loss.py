"""How to compare: the Tversky loss (Salehi, Erdogmus, Gholipour 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TINY = 1e-12


class Tversky(nn.Module):
    """`1 - (tp + s) / (tp + missed·fn + invented·fp + s)` of each channel of each sample, then the mean.

    Args:
        missed: The price of foreground that was not found.
        invented: The price of foreground that is not there.
        smooth: `s`.
        from_logits: Whether *pred* is logits, or probabilities.
        mode: Taken because a combination tells every component; each channel is judged by itself in either.
    """

    def __init__(
        self, *, missed: float, invented: float, smooth: float, from_logits: bool = True, mode: str = "binary"
    ) -> None:
        super().__init__()
        self.missed = missed
        self.invented = invented
        self.smooth = smooth
        self.from_logits = from_logits
        self.mode = mode

    def forward(self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the loss of *pred* against *target*, `(B, C, *spatial)` each, where *mask* is true."""
        pred = pred.to(torch.promote_types(pred.dtype, torch.float32))
        counts = torch.ones_like(pred, dtype=torch.bool) if mask is None else mask.expand_as(pred)
        logits = pred if self.from_logits else torch.logit(pred, eps=TINY)
        found = torch.where(counts, logits, -torch.inf).sigmoid()
        real = torch.where(counts, target.to(found.dtype), 0.0)
        axes = tuple(range(2, pred.dim()))
        tp = (found * real).sum(axes)
        fn, fp = real.sum(axes) - tp, found.sum(axes) - tp
        score = (tp + self.smooth) / (tp + self.missed * fn + self.invented * fp + self.smooth)
        return (1 - score).mean()

    def explain(self) -> str:
        """Return the formula with its numbers."""
        return (
            f"Tversky loss = 1 - (tp + s) / (tp + {self.missed:g}·fn + {self.invented:g}·fp + s), s = {self.smooth:g}"
        )
