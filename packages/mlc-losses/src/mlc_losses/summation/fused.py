"""The sums block by block: one pass forward, one backward, and no temporaries of the tensors' size."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch

from mlc_losses.inputs import Inputs, sum_dtype, working_dtype
from mlc_losses.summation.blocks import fold, measure_block, split, split_inputs
from mlc_losses.summation.plain import sum_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.summation.kernels import Kernel, Sums
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
        """Return the sums of each of *terms*, of blocks of about *size* values, or of everything at once."""
        ctx.save_for_backward(*inputs[:4])  # so that torch notices when one is written to before the backward pass
        ctx.facts, ctx.terms, ctx.kernel = inputs[4:], terms, kernel
        needed = ctx.needs_input_grad[0] and pred.dtype == working_dtype(inputs)
        ctx.kept = kept = torch.empty_like(pred, memory_format=torch.contiguous_format) if needed else None
        ctx.block = measure_block(*pred.shape, size=size)
        filled = kept is not None and kernel.fill(pred, kept)
        folded, rows = fold(inputs, size)
        block = measure_block(*folded.pred.shape, size=size)
        places = itertools.repeat(None) if kept is None else split(kept.view(folded.pred.shape), block)
        parts = zip(split_inputs(folded, block), places)  # noqa: B905
        found = [kernel.add(*one, filled=filled) for one in parts]
        if size is None or not ctx.needs_input_grad[0]:
            kernel.release()
        return _collect(found, pred, rows)

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
        ready = kept is not None or ctx.kernel.fill(pred, out)
        slopes = tuple(one.to(working_dtype(inputs)) for one in slopes)
        repeats = -(-pred.shape[2] // ctx.block[1])  # a sample's slopes are those of each of its parts
        of_rows = zip(*(one.chunk(pred.shape[0] // ctx.block[0], 1) for one in slopes), strict=True)
        parts = [some for some in of_rows for _ in range(repeats)]
        for block, slope, place in zip(split_inputs(inputs, ctx.block), parts, split(out, ctx.block), strict=True):
            ctx.kernel.differentiate(block, slope, place, kept=ready)
        del kept
        ctx.kernel.release()
        return out, None, None, None, None


def _collect(found: Sequence[Sums], pred: Tensor, rows: int) -> tuple[Tensor, ...]:
    """Return what the blocks *found* as one tensor for each term, in as few calls as one term of one block takes.

    A sample was *rows* rows.
    """
    samples, wide = pred.shape[0], sum_dtype(pred.device)
    totals = []
    for blocks in zip(*found, strict=True):
        kinds, (some, cells) = len(blocks[0]), blocks[0][0].shape
        flat = torch.cat([one for block in blocks for one in block])
        parts = len(blocks) * some // (samples * rows)
        split = flat.view(samples * rows // some, parts, kinds, some, cells).sum(1, dtype=wide)
        whole = split.transpose(0, 1).reshape(kinds, samples, rows, cells)
        totals.append(whole.squeeze(2) if rows == 1 else whole.sum(2))
    return tuple(totals)
