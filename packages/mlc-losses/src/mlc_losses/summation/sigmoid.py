"""Regions and cross entropy of channels that each stand alone, by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from mlc_losses.summation.scratch import Scratch, erase, read_bits, scale
from mlc_losses.terms import RegionTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.summation.kernels import Sums
    from mlc_losses.terms import Term

__all__ = ["SigmoidKernel", "count_rows", "differentiate_region", "sum_region"]

LOG2_E = 1.4426950408889634

HARD = 1 / 32
"""What a voxel costs on average from where on products of probabilities cost no accuracy that shows."""

TOGETHER = 64
"""How many numbers from 1/2 to 1 are multiplied before one logarithm; float32 would hold twice as many."""


class SigmoidKernel:
    """One region term and one of cross entropy without gamma, or either, of hard and soft targets."""

    block = 262_144

    def __init__(self, terms: Sequence[Term], dtype: torch.dtype) -> None:
        self.terms = terms
        self.dtype = dtype
        self.scratch = Scratch()

    def fill(self, pred: Tensor, out: Tensor) -> bool:
        """Leave *out* alone."""
        return False

    def add(self, block: Inputs, kept: Tensor | None, *, filled: bool) -> Sums:
        """Return the sums of each term over *block*."""
        counted, bits = read_bits(block)
        x = self.scratch.widen("x", block.pred, self.dtype)
        t = self._read_target(block, bits)
        p = self.scratch.take("p", x, self.dtype) if kept is None else kept
        spare = self.scratch.take("spare", x, self.dtype)
        erase(torch.sigmoid(x, out=p), bits)
        count = count_rows(block, counted, self.scratch, self.dtype)
        return [
            [*sum_region(term, p, t, spare), count]
            if isinstance(term, RegionTerm)
            else [self._sum_cross_entropy(x, p, t, bits, spare), count]
            for term in self.terms
        ]

    def release(self) -> None:
        """Let go of the buffers."""
        self.scratch.clear()

    def differentiate(self, block: Inputs, slopes: Sequence[Tensor], out: Tensor, *, kept: bool) -> None:
        """Write the gradient of the prediction into *out*."""
        _, bits = read_bits(block)
        t = self._read_target(block, bits)
        p = out if out.dtype == self.dtype else self.scratch.take("p", out, self.dtype)
        if not kept:
            erase(torch.sigmoid(self.scratch.widen("x", block.pred, self.dtype), out=p), bits)
        spare = self.scratch.take("spare", p, self.dtype)
        rise = None
        for term, slope in zip(self.terms, slopes, strict=True):
            if isinstance(term, RegionTerm):
                differentiate_region(term, slope, p, t, spare, soft=block.target.is_floating_point())
            else:
                rise = slope[0, ..., None]
        if rise is None:
            p.copy_(spare)
        elif len(self.terms) == 1:
            p.sub_(t).mul_(rise)
        else:
            scale(p.sub_(t), rise, spare, p)
        erase(p, bits)
        if p is not out:
            out.copy_(p)

    def _read_target(self, block: Inputs, bits: Tensor | None) -> Tensor:
        t = self.scratch.widen("t", block.target, self.dtype)
        return t if bits is None else erase(t, bits, out=self.scratch.take("t", t, t.dtype))

    def _sum_cross_entropy(self, x: Tensor, p: Tensor, t: Tensor, bits: Tensor | None, spare: Tensor) -> Tensor:
        """Return `Σ max(x, 0) - t·x + log(1 + exp(-|x|))`, `(b, C)`."""
        sums = erase(torch.clamp_min(x, 0, out=spare).addcmul_(x, t, value=-1), bits).sum(-1)
        found = sums.flatten().tolist() if x.device.type == "cpu" else [0.0]
        if not math.isfinite(sum(found)):  # infinite logits may be right
            sums = erase(_measure_exactly(x, t), bits).sum(-1)
        if min(found) > HARD * x.shape[-1]:
            one = self.scratch.full(1, (), x, self.dtype)
            return sums.sub_(_sum_logarithms(torch.maximum(torch.sub(one, p, out=spare), p, out=spare)))
        torch.abs(x, out=spare).mul_(-LOG2_E)
        return sums.add_(_sum_logarithms_of_more(erase(torch.exp2(spare, out=spare), bits)))


def count_rows(block: Inputs, counted: Tensor | None, scratch: Scratch, dtype: torch.dtype) -> Tensor:
    """Return how many voxels count in each channel of each sample, `(b, C)`."""
    *cells, voxels = block.pred.shape
    if counted is None:
        return scratch.full(voxels, tuple(cells), block.pred, dtype)
    return counted.view(torch.uint8).sum(-1, dtype=dtype).expand(*cells)


def sum_region(term: RegionTerm, p: Tensor, t: Tensor, spare: Tensor) -> list[Tensor]:
    """Return overlap, both sizes, and what is present, each `(b, C)`; *spare* is overwritten, and may be *p*."""
    present = t.sum(-1)
    if not term.squared:
        size = p.sum(-1)
        return [torch.minimum(p, t, out=spare).sum(-1), size, present, present]
    size = torch.linalg.vecdot(p, p)  # needs no place to write to, which may be p itself
    overlap = torch.mul(p, t, out=spare).sum(-1)
    return [overlap, size, torch.mul(t, t, out=spare).sum(-1), present]


def differentiate_region(term: RegionTerm, slope: Tensor, p: Tensor, t: Tensor, out: Tensor, *, soft: bool) -> None:
    """Write what *slope*, `(5, b, C)`, means for the logits into *out*."""
    overlap, size = slope[0, ..., None], slope[1, ..., None]
    if term.squared:
        torch.mul(t, overlap, out=out).addcmul_(p, 2 * size)
    else:
        # where p has reached t = 1 the comparison is false, but there the derivative of the sigmoid is 0
        scale(torch.lt(p, t, out=out) if soft else t, overlap, size, out)
    torch.ops.aten.sigmoid_backward.grad_input(out, p, grad_input=out)


def _measure_exactly(x: Tensor, t: Tensor) -> Tensor:
    """Return `max(x, 0) - t·x`, 0 where an infinite logit is right."""
    return torch.where(t < 1, (1 - t) * x.clamp_min(0), 0) + torch.where(t > 0, t * x.neg().clamp_min(0), 0)


def _sum_logarithms(q: Tensor) -> Tensor:
    """Return `Σ log q` of numbers from 1/2 to 1."""
    even = q.shape[-1] // TOGETHER * TOGETHER
    if not even:
        return q.log().sum(-1)
    sums = q[..., :even].view(*q.shape[:-1], TOGETHER, -1).prod(-2).log_().sum(-1)
    return sums if even == q.shape[-1] else sums + q[..., even:].log().sum(-1)


def _sum_logarithms_of_more(e: Tensor) -> Tensor:
    """Return `Σ log(1 + e)` of numbers from 0 to 1, however small; overwrites them.

    `(1 + a)·(1 + b) - 1 = a + b + a·b`, which keeps what `1 + a` would round away, and needs a logarithm for 16.
    """
    left = e.shape[-1]
    for _ in range(4):
        half = (left + 1) // 2
        low, high = e[..., : left - half], e[..., half:left]
        low.addcmul_(low, high).add_(high)
        left = half
    return e[..., :left].log1p_().sum(-1)
