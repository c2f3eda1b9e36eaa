"""Which datasets are known to draw nothing at random, so that nothing has to be seeded for their samples."""

from __future__ import annotations

from torch.utils.data import ConcatDataset, Subset, TensorDataset

__all__ = ["may_draw"]


def may_draw(dataset: object) -> bool:
    """Say whether a sample of *dataset* may depend on a generator: of all but tensors, and parts of such, it may.

    Starting three generators takes as long as a few rows of a tensor. A subclass is not known: it may do anything.
    """
    if type(dataset) is TensorDataset:
        return False
    if type(dataset) is Subset:
        return may_draw(dataset.dataset)
    return type(dataset) is not ConcatDataset or any(map(may_draw, dataset.datasets))
