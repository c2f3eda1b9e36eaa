"""How tensors are cut so that what a block needs stays in the processor's caches."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

__all__ = ["block_size", "cut"]

CPU_BLOCK = 196_608
"""Values of the prediction in one block: half a megabyte to a core of two, and few calls for large tensors."""


def block_size(device: torch.device) -> int | None:
    """Return how many values of the prediction one block may hold on *device*, or `None` for all of them.

    Elsewhere than on a CPU a loop over blocks would wait for launches.
    """
    return CPU_BLOCK if device.type == "cpu" else None


def cut(samples: int, channels: int, voxels: int, *, size: int | None) -> Iterator[tuple[slice, slice]]:
    """Yield slices of samples and voxels such that no block has more than about *size* values.

    Whole samples where several fit, else parts of one, of equal size as far as that goes.
    """
    if size is None:
        yield slice(0, samples), slice(0, voxels)
        return
    fit = size // max(1, channels * voxels)
    if fit:
        for start in range(0, samples, fit):
            yield slice(start, min(start + fit, samples)), slice(0, voxels)
        return
    parts = -(-channels * voxels // size)
    width = -(-voxels // parts)
    for sample in range(samples):
        for start in range(0, voxels, width):
            yield slice(sample, sample + 1), slice(start, min(start + width, voxels))
