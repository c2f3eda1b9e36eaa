"""A small U-Net (Ronneberger, Fischer, Brox 2015)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["UNet"]


def _block(channels_in: int, channels_out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
        nn.Dropout2d(dropout),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Down and up again, with skip connections.

    Args:
        channels_in: Of the image.
        channels_out: One logit each.
        width: Channels at full resolution; doubled at each level.
        levels: How often the resolution is halved.
        dropout: Share of feature maps dropped in training.
    """

    def __init__(
        self, *, channels_in: int = 1, channels_out: int = 2, width: int = 8, levels: int = 3, dropout: float = 0.05
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(_block(before, after, dropout) for before, after in pairwise([channels_in, *widths]))
        self.up = nn.ModuleList(_block(below + here, here, dropout) for here, below in reversed(list(pairwise(widths))))
        self.head = nn.Conv2d(width, channels_out, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits `(B, channels_out, H, W)` of *image* `(B, channels_in, H, W)`.

        H and W are multiples of `2**levels`.
        """
        features = image
        skipped: list[Tensor] = []
        for block in self.down:
            features = block(features if not skipped else nn.functional.max_pool2d(features, 2))
            skipped.append(features)
        for block, beside in zip(self.up, reversed(skipped[:-1]), strict=True):
            larger = nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([beside, larger], 1))
        logits: Tensor = self.head(features)
        return logits
