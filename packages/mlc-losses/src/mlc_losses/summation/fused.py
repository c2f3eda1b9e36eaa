"""The sums block by block: one pass forward, one backward, and no temporaries of the tensors' size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mlc_losses.inputs import Inputs, sum_dtype, working_dtype
from mlc_losses.summation.blocks import cut
from mlc_losses.summation.plain import sum_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.summation.kernels import Kernel
    from mlc_losses.terms import Term

__all__ = ["FusedSums"]


class FusedSums(torch.autograd.Function):
    """Sums of terms by a kernel; the gradient is written where the kernel kept its probabilities.

    A graph that is kept (`retain_graph=True`) gives the same gradient again, from probabilities computed anew. A
    gradient that is itself to be differentiated (`create_graph=True`) comes from the plain formulas.
    """

    @staticmethod
    def forward(
        ctx: Any, pred: Tensor, inputs: Inputs, terms: Sequence[Term], kernel: Kernel, size: int | None
    ) -> tuple[Tensor, ...]:
        """Return the sums of each of *terms*."""
        ctx.save_for_backward(*inputs[:4])  # so that torch notices when one is written to before the backward pass
        ctx.facts, ctx.terms, ctx.kernel, ctx.size = inputs[4:], terms, kernel, size
        needed = ctx.needs_input_grad[0] and pred.dtype == working_dtype(inputs)
        ctx.kept = torch.empty_like(pred, memory_format=torch.contiguous_format) if needed else None
        samples = pred.shape[0]
        wide = sum_dtype(pred.device)
        totals: list[Tensor] = []
        for rows, voxels in cut(*pred.shape, size=size):
            sums = kernel.add(inputs.block(rows, voxels), None if ctx.kept is None else ctx.kept[rows, :, voxels])
            if not totals:
                totals = [one.new_zeros(one.shape[0], samples, one.shape[2], dtype=wide) for one in sums]
            for total, one in zip(totals, sums, strict=True):
                total[:, rows] += one
        return tuple(totals)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the prediction."""
        inputs = Inputs(*ctx.saved_tensors, *ctx.facts)
        pred = inputs.pred
        if torch.is_grad_enabled():  # create_graph=True
            (gradient,) = torch.autograd.grad(sum_plain(inputs, ctx.terms), pred, slopes, create_graph=True)
            return gradient, None, None, None, None
        kept, ctx.kept = ctx.kept, None  # ours no more: what we return is the caller's to write into
        out = torch.empty_like(pred, memory_format=torch.contiguous_format) if kept is None else kept
        for rows, voxels in cut(*pred.shape, size=ctx.size):
            block = inputs.block(rows, voxels)
            parts = [one[:, rows] for one in slopes]
            ctx.kernel.differentiate(block, parts, out[rows, :, voxels], kept=kept is not None)
        del kept
        return out, None, None, None, None
