"""Which way sums are made: by what traces, by what they are asked for, and by where the tensors are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlc_losses.summation.blocks import block_size
from mlc_losses.summation.fused import FusedSums
from mlc_losses.summation.kernels import AnyKernel
from mlc_losses.summation.plain import sum_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.summation.kernels import Kernel
    from mlc_losses.terms import Term

__all__ = ["choose_kernel", "sum_terms"]


def sum_terms(inputs: Inputs, terms: Sequence[Term]) -> tuple[Tensor, ...]:
    """Return the sums of each of *terms*, float64 where the device has it, with a graph to *inputs.pred*.

    Under `torch.compile` these are the plain formulas, which the compiler fuses; else a kernel goes over the tensors
    once forward and once backward, in blocks on a CPU, whole elsewhere.
    """
    if torch.compiler.is_compiling() or not inputs.pred.numel():
        return sum_plain(inputs, terms)
    size = block_size(inputs.pred.device)
    kernel = choose_kernel(inputs, terms)
    sums: tuple[Tensor, ...] = FusedSums.apply(inputs.pred, inputs, terms, kernel, size)  # type: ignore[no-untyped-call]
    return sums


def choose_kernel(inputs: Inputs, terms: Sequence[Term]) -> Kernel:
    """Return the fastest kernel that has all that *inputs* and *terms* ask for."""
    return AnyKernel(terms)
