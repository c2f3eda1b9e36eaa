"""Which way sums are made: by what traces, by what they are asked for, and by where the tensors are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlc_losses.inputs import working_dtype
from mlc_losses.summation.focal import FocalKernel, is_hard
from mlc_losses.summation.fused import FusedSums
from mlc_losses.summation.kernels import AnyKernel
from mlc_losses.summation.plain import sum_plain
from mlc_losses.summation.sigmoid import SigmoidKernel
from mlc_losses.summation.softmax import CLASSES, SoftmaxKernel
from mlc_losses.summation.together import can_share, sum_sharing
from mlc_losses.summation.unrolled import can_unroll, sum_unrolled
from mlc_losses.terms import VoxelTerm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.summation.kernels import Kernel
    from mlc_losses.terms import Term

__all__ = ["choose_kernel", "sum_terms"]


def sum_terms(inputs: Inputs, terms: Sequence[Term]) -> tuple[Tensor, ...]:
    """Return the sums of each of *terms*, float64 where the device has it, with a graph to *inputs.pred*.

    Under `torch.compile`, which fuses them, and under `torch.func` these are plain formulas; else a kernel goes over
    the tensors once forward and once backward, in blocks on a CPU, whole elsewhere, where a loop waits for launches.
    """
    if torch.compiler.is_compiling():
        return _sum_compiled(inputs, terms)
    if not inputs.pred.numel() or _transformed(inputs.pred):
        return sum_plain(inputs, terms)
    kernel = choose_kernel(inputs, terms)
    size = kernel.block if inputs.pred.device.type == "cpu" else None
    sums: tuple[Tensor, ...] = FusedSums.apply(inputs.pred, inputs, terms, kernel, size)  # type: ignore[no-untyped-call]
    return sums


def _transformed(pred: Tensor) -> bool:
    """Return whether `torch.func` is at work, which cannot look into what is written in place."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(pred))  # noqa: SLF001 -- torch has no public question


def _sum_compiled(inputs: Inputs, terms: Sequence[Term]) -> tuple[Tensor, ...]:
    """Return the sums as the compiler likes them: one loop forward, one backward, and nothing kept between the two."""
    from torch.utils.checkpoint import checkpoint  # it brings half of the compiler

    def add(pred: Tensor) -> tuple[Tensor, ...]:
        return choose_formula(inputs, terms)(inputs._replace(pred=pred), terms)

    # probabilities cost less to compute again than to write and to read
    sums: tuple[Tensor, ...] = checkpoint(add, inputs.pred, use_reentrant=False, preserve_rng_state=False)
    return sums


def choose_formula(inputs: Inputs, terms: Sequence[Term]) -> Callable[[Inputs, Sequence[Term]], tuple[Tensor, ...]]:
    """Return the formulas of which a compiler makes the fastest code that has all that is asked for."""
    if can_share(inputs, terms):
        return sum_sharing
    return sum_unrolled if can_unroll(inputs, terms) else sum_plain


def choose_kernel(inputs: Inputs, terms: Sequence[Term]) -> Kernel:
    """Return the fastest kernel that has all that *inputs* and *terms* ask for."""
    voxels = [one for one in terms if isinstance(one, VoxelTerm)]
    special = inputs.weight is not None or not inputs.from_logits or any(one.smoothing for one in terms)
    if special or len(voxels) > 1 or len(terms) - len(voxels) > 1:
        return AnyKernel(terms)
    dtype = working_dtype(inputs)
    if inputs.softmax:
        fits = inputs.labelled and inputs.pred.shape[1] <= CLASSES
        return SoftmaxKernel(terms, dtype) if fits else AnyKernel(terms)
    if voxels in ([], [VoxelTerm()]):
        return SigmoidKernel(terms, dtype)
    return FocalKernel(terms, dtype) if inputs.hard or is_hard(inputs) else AnyKernel(terms)
