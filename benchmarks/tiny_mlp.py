"""A model so small that what surrounds a step is what is seen, and its data, for configurations to name."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

BATCH = 8
WARM_UP = 50
STEPS = 500


class TinyMLP(nn.Module):
    """16-16-1, with a stop-watch: it knows when its first timed step began, and when the last one did."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
        self.calls = 0
        self.began = self.ended = 0.0

    def forward(self, inputs: Tensor) -> Tensor:
        if self.calls == WARM_UP:
            self.began = time.process_time()
        elif self.calls == WARM_UP + STEPS:
            self.ended = time.process_time()
        self.calls += 1
        return self.layers(inputs)

    @property
    def seconds(self) -> float:
        """Of the processor, for one step."""
        return (self.ended - self.began) / STEPS


class Rows:
    """Numbers at random, which nobody can learn anything from."""

    def training(self) -> TensorDataset:
        """Return batches enough for the warm-up, the timed steps, and the one that ends the time of the last."""
        return rows(BATCH * (WARM_UP + STEPS + 1))

    def validation(self) -> TensorDataset:
        """Return one batch."""
        return rows(BATCH)


def rows(length: int) -> TensorDataset:
    """Return so many pairs of `(16,)` and `(1,)`."""
    draw = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(length, 16, generator=draw), torch.randn(length, 1, generator=draw))
