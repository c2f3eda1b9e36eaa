"""How tensors are cut so that what a block needs stays in the processor's caches."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from mlc_losses.inputs import Inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor

__all__ = ["block_size", "cut", "fold", "measure_block", "split", "split_inputs"]

CPU_BLOCK = 196_608
"""Values in one block where nobody knows better: what stays in the caches of a core, in few calls."""

ALIGNED = 64
"""A multiple of how many values a block is wide: rows that start within a cache line cost up to twice as much."""

ROWS = 4
"""In how many rows a block of one channel is summed."""


def block_size(device: torch.device) -> int | None:
    """Return how many values of the prediction one block may hold on *device*, or `None` for all of them.

    Elsewhere than on a CPU a loop over blocks would wait for launches.
    """
    return CPU_BLOCK if device.type == "cpu" else None


def cut(samples: int, channels: int, voxels: int, *, size: int | None) -> Iterator[tuple[slice, slice]]:
    """Yield slices of samples and voxels such that no block has more than about *size* values.

    Whole samples where they fit, the same number in each block, else parts of one, as many of each sample.
    """
    rows, width = measure_block(samples, channels, voxels, size=size)
    for sample in range(0, samples, rows):
        for start in range(0, max(1, voxels), width):
            yield slice(sample, sample + rows), slice(start, min(start + width, voxels))


def measure_block(samples: int, channels: int, voxels: int, *, size: int | None) -> tuple[int, int]:
    """Return how many samples and how many voxels of each there are in a block."""
    whole = max(1, channels * voxels)
    if size is None:
        return max(1, samples), max(1, voxels)
    rows = max(1, min(samples, size // whole))
    while samples % rows:
        rows -= 1
    parts = -(-rows * whole // size)
    width = max(1, -(-voxels // parts))
    return rows, min(width + -width % ALIGNED, max(1, voxels))


def fold(inputs: Inputs, block: int | None) -> tuple[Inputs, int]:
    """Return *inputs* of one channel with every sample as several rows, without copying, and how many.

    torch sums one row with one thread, whatever else is idle. Where rows cannot be of one length it is one, and so
    where there is no *block*.
    """
    samples, channels, voxels = inputs.pred.shape
    given = [one for one in inputs[:4] if one is not None]
    if block is None or channels > 1 or inputs.labelled or not all(one.is_contiguous() for one in given):
        return inputs, 1
    least = max(1, -(-voxels * ROWS // block))
    parts = next((parts for parts in range(least, 2 * least) if not voxels % (parts * ALIGNED)), 1)
    shape = (samples * parts, 1, -1)
    mask, weight = (one if one is None else one.view(shape) for one in inputs[2:4])
    folded = inputs._replace(pred=inputs.pred.view(shape), target=inputs.target.view(shape), mask=mask, weight=weight)
    return folded, parts


def split(one: Tensor, block: tuple[int, int]) -> Iterator[Tensor]:
    """Yield the parts of a tensor whose first axis are samples and whose last are voxels, without copying."""
    rows, width = block
    whole, rest = divmod(one.shape[-1], width)
    widths = [width] * whole + [rest] * (rest > 0)
    for some in one.chunk(max(1, one.shape[0] // rows)):  # unlike split these make no detour through Python
        yield from some.split_with_sizes(widths, -1) if len(widths) > 1 else (some,)


def split_inputs(inputs: Inputs, block: tuple[int, int]) -> Iterator[Inputs]:
    """Yield the parts of *inputs*, without copying."""
    mask, weight = (itertools.repeat(None) if one is None else split(one, block) for one in inputs[2:4])
    softmax, from_logits, ignored, spatial, hard = inputs[4:]
    # what is absent is so in every part
    for parts in zip(split(inputs.pred, block), split(inputs.target, block), mask, weight):  # noqa: B905
        yield Inputs(*parts, softmax, from_logits, ignored, spatial, hard)
