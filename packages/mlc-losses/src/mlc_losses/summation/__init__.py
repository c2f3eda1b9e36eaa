"""Sums over voxels, with their gradients: plain, and in blocks without temporaries of the tensors' size."""

from mlc_losses.summation.paths import sum_terms
from mlc_losses.summation.plain import cost_voxels, sum_plain

__all__ = ["cost_voxels", "sum_plain", "sum_terms"]
