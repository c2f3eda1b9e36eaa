"""Which samples make up which batch: a pure function of seed, epoch and position."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch

from mlc_trainer.distributed.pieces import WHOLE, Cut
from mlc_trainer.randomness import DATA_ORDER, mix

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BatchPlan", "Token", "epoch_order"]

Token = tuple[int, int]
"""An epoch and the index of a sample: what a loader hands to a dataset instead of an index alone."""


def epoch_order(seed: int, epoch: int, length: int) -> list[int]:
    """Return the order of *length* samples in *epoch*."""
    generator = torch.Generator()
    generator.manual_seed(mix(DATA_ORDER, seed, epoch))
    order: list[int] = torch.randperm(length, generator=generator).tolist()
    return order


@attrs.define(kw_only=True)
class BatchPlan:
    """The batches of one epoch from some position on; a batch sampler for `torch.utils.data.DataLoader`.

    To skip is to count: nothing is loaded or decoded to get to batch *first*.
    """

    length: int
    batch_size: int
    seed: int
    shuffle: bool
    drop_last: bool
    cut: Cut = WHOLE
    """Which samples of each batch are this process's."""
    epoch: int = 0
    first: int = 0

    def __len__(self) -> int:
        """Return how many batches a whole epoch has."""
        whole, rest = divmod(self.length, self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def length_of(self, batch: int) -> int:
        """Return how many samples *batch* has, all processes together."""
        return min(self.batch_size, self.length - batch * self.batch_size)

    def __iter__(self) -> Iterator[list[Token]]:
        """Yield the tokens of this process in each batch, of the epoch and the position that hold at this moment."""
        order = epoch_order(self.seed, self.epoch, self.length) if self.shuffle else list(range(self.length))
        return self._cut(order, self.epoch, range(self.first, len(self)))

    def _cut(self, order: list[int], epoch: int, batches: range) -> Iterator[list[Token]]:
        for batch in batches:
            start, rows = batch * self.batch_size, self.cut.rows(self.length_of(batch))
            yield [(epoch, order[start + row]) for row in rows]
