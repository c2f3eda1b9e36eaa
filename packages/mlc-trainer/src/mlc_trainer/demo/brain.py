"""Grey and white matter in slices of a brain template, made as hard as a real scan.

The clean template is nearly trivial: two thresholds separate its tissues. It is therefore seen through a simulated
scanner: a smooth bias field of up to ±40 %, drawn once from a seed, and 7 % Rician noise (Gudbjartsson and Patz 1995),
drawn anew for each training sample and each epoch. On such a scan the best threshold after the best smoothing has a
mean Dice of 0.86. Slices that are neighbours are alike, so validation is a slab of its own above a gap of 8 mm; the
template is left-right symmetric, so no half of it is ever held out.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
import torch
from torch.nn.functional import interpolate

__all__ = ["CLASSES", "BrainSlices", "BrainTissue"]

CLASSES = ("grey", "white")
LABELS = (2, 3)  # what the file calls them
FIELD = 152  # the seed of the scanner's field
ROWS, COLUMNS = slice(9, 89), slice(10, 106)  # the brain with a margin: 80 × 96 voxels of 2 mm
TRAINING = range(5, 49)
VALIDATION = range(53, 71)  # 4 slices of 2 mm above the last one trained on


@cache
def _scan(bias: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the noiseless scan, in units of the brightest voxel, and labels, `(slices, rows, columns)` each."""
    with resources.files(__package__).joinpath("data/mni152_2mm.npz").open("rb") as file:
        arrays = np.load(file)
        t1, labels = (arrays[name][ROWS, COLUMNS].transpose(2, 0, 1) for name in ("t1", "labels"))
    clean = torch.from_numpy(t1.astype(np.float32) / 255)
    coarse = torch.rand(1, 1, 3, 3, 3, generator=torch.Generator().manual_seed(FIELD)) * 2 - 1
    field = 1 + bias * interpolate(coarse, clean.shape, mode="trilinear", align_corners=True)[0, 0]
    return clean * field, torch.from_numpy(labels.copy())


class BrainSlices:
    """Axial slices as pairs of image `(1, 80, 96)` and tissue `(2, 80, 96)`, float32."""

    def __init__(self, slices: tuple[int, ...], *, bias: float, noise: float) -> None:
        self._slices = slices
        self._bias = bias
        self._noise = noise

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        scan, labels = _scan(self._bias)
        where = self._slices[index]
        real, imaginary = (self._noise * torch.randn_like(scan[where]) for _ in range(2))
        tissue = torch.stack([labels[where] == label for label in LABELS]).float()
        return torch.hypot(scan[where] + real, imaginary)[None], tissue


class BrainTissue:
    """Where the demo's data come from: 44 slices to train on, 18 to measure on.

    Args:
        bias: Strength of the bias field; 0.4 is ±40 %.
        noise: Standard deviation of the noise, of an intensity range of 1.
    """

    def __init__(self, *, bias: float = 0.4, noise: float = 0.07) -> None:
        self._options = {"bias": bias, "noise": noise}

    def training(self) -> BrainSlices:
        """Return the lower slices."""
        return BrainSlices(tuple(TRAINING), **self._options)

    def validation(self) -> BrainSlices:
        """Return the slab above them."""
        return BrainSlices(tuple(VALIDATION), **self._options)
