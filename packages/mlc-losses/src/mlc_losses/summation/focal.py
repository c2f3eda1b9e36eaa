"""Focal loss, and cross entropy by class, of channels that each stand alone and targets of 0 and 1, by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from mlc_losses.inputs import working_dtype
from mlc_losses.summation.blocks import measure_block, split_inputs
from mlc_losses.summation.scratch import Scratch, erase, read_bits, scale
from mlc_losses.summation.sigmoid import count_rows, differentiate_region, sum_region
from mlc_losses.terms import RegionTerm, VoxelTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.summation.kernels import Sums
    from mlc_losses.terms import Term

__all__ = ["FocalKernel", "is_hard"]

LINEAR_FROM = 40.0
"""The logit from where on `log(1 + exp(z))` is z, in float64 too."""

SURE = 1 - 2.0**-8
"""How wrong a voxel may be for what is left of 1 to have a logarithm that is as good as any."""

PROOF = 524_288
"""How many values of a target are looked at at once."""


class FocalKernel:
    """One region term and one of focal cross entropy, or the latter alone.

    With `z = (1 - 2t)·x` every voxel is background: `s = sigmoid(z)` is how wrong it is, and it costs
    `s^gamma·log(1 + exp(z))`. That needs no sums of others, so its gradient is made in the forward pass.
    """

    block = 262_144

    def __init__(self, terms: Sequence[Term], dtype: torch.dtype) -> None:
        self.terms = terms
        self.dtype = dtype
        self.region = next((one for one in terms if isinstance(one, RegionTerm)), None)
        self.voxel = next(one for one in terms if isinstance(one, VoxelTerm))
        self.scratch = Scratch()

    def fill(self, pred: Tensor, out: Tensor) -> bool:
        """Leave *out* alone."""
        return False

    def add(self, block: Inputs, kept: Tensor | None, *, filled: bool) -> Sums:
        """Return the sums of each term over *block*."""
        counted, bits = read_bits(block)
        t = self._read_target(block, bits)
        spare = self.scratch.take("spare", block.pred, self.dtype) if kept is None else kept
        wrong, cost = self._measure(block, t, bits)
        count = count_rows(block, counted, self.scratch, self.dtype)
        found: dict[Term, Sequence[Tensor]] = {}
        if self.region is not None:
            p = torch.sub(wrong, t, out=spare).abs_()
            found[self.region] = [*sum_region(self.region, p, t, p), count]
        if self.voxel.gamma:
            cost.mul_(torch.pow(wrong, self.voxel.gamma, out=spare))
        if self.voxel.by_class:
            foreground = torch.mul(cost, t, out=spare).sum(-1)
            background = torch.sub(cost, spare, out=spare).sum(-1)
            present = t.sum(-1)
            pairs = (-background, -foreground), (count - present, present)
            found[self.voxel] = [torch.stack(pair, -1).flatten(1) for pair in pairs]
        else:
            found[self.voxel] = [cost.sum(-1).neg_(), count]
        if kept is not None:
            self._fall(t, wrong, cost, kept)
        return [found[term] for term in self.terms]

    def release(self) -> None:
        """Let go of the buffers."""
        self.scratch.clear()

    def differentiate(self, block: Inputs, slopes: Sequence[Tensor], out: Tensor, *, kept: bool) -> None:
        """Write the gradient of the prediction into *out*."""
        _, bits = read_bits(block)
        t = self._read_target(block, bits)
        gradient = out if out.dtype == self.dtype else self.scratch.take("gradient", out, self.dtype)
        if not kept:
            wrong, cost = self._measure(block, t, bits)
            if self.voxel.gamma:
                cost.mul_(torch.pow(wrong, self.voxel.gamma, out=gradient))
            self._fall(t, wrong, cost, gradient)
        spare = self.scratch.take("cost", gradient, self.dtype)
        for term, slope in zip(self.terms, slopes, strict=True):
            if isinstance(term, VoxelTerm):
                rise = slope[0].reshape(*block.pred.shape[:2], -1, 1)  # (b, C, 1 or 2, 1)
                if term.by_class:
                    scale(t, rise[:, :, 1] - rise[:, :, 0], rise[:, :, 0], spare)
                gradient.mul_(spare if term.by_class else rise[:, :, 0])
        for term, slope in zip(self.terms, slopes, strict=True):
            if isinstance(term, RegionTerm):
                p = self.scratch.take("wrong", gradient, self.dtype)
                torch.sigmoid(self.scratch.widen("x", block.pred, self.dtype), out=p)
                differentiate_region(term, slope, p, t, spare, soft=False)
                gradient.add_(spare)
        erase(gradient, bits)
        if gradient is not out:
            out.copy_(gradient)

    def _read_target(self, block: Inputs, bits: Tensor | None) -> Tensor:
        t = self.scratch.widen("t", block.target, self.dtype)
        return t if bits is None else erase(t, bits, out=self.scratch.take("t", t, t.dtype))

    def _measure(self, block: Inputs, t: Tensor, bits: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return how wrong each voxel is and minus its cross entropy."""
        x = self.scratch.widen("x", block.pred, self.dtype)
        cost = self.scratch.take("cost", x, self.dtype)
        turn = torch.add(self.scratch.full(1, (), x, self.dtype), t, alpha=-2, out=cost)
        turn.mul_(x)  # x - 2·t·x would take one call, and give NaN for infinities
        wrong = erase(torch.sigmoid(cost, out=self.scratch.take("wrong", x, self.dtype)), bits)
        if x.device.type == "cpu" and wrong.amax().item() < SURE:  # this logarithm takes half of the time
            return wrong, torch.neg(wrong, out=cost).log1p_()
        functional.softplus(cost, threshold=LINEAR_FROM, out=cost)  # type: ignore[call-arg]
        return wrong, erase(cost.neg_(), bits)

    def _fall(self, t: Tensor, wrong: Tensor, cost: Tensor, out: Tensor) -> None:
        """Write the derivative of the cost by the logits into *out*: `s^gamma·(s + gamma·(1 - s)·log(1 + exp(z)))`.

        *cost* is minus the latter, times `s^gamma`. Overwrites *wrong*.
        """
        gamma = self.voxel.gamma
        torch.pow(wrong, gamma + 1, out=out)
        if gamma:
            out.addcmul_(cost, wrong.sub_(1), value=gamma)
        out.addcmul_(out, t, value=-2)


def is_hard(inputs: Inputs) -> bool:
    """Return whether the target is known to hold 0 and 1 alone where it counts."""
    target = inputs.target
    if not target.is_floating_point():
        return True
    if target.device.type != "cpu":
        return False  # to look would be to wait for the device
    scratch = Scratch()
    for block in split_inputs(inputs, measure_block(*target.shape, size=PROOF)):
        t = scratch.widen("t", block.target, working_dtype(block))
        between = torch.addcmul(t, t, t, value=-1, out=scratch.take("between", t, t.dtype))
        low, high = torch.aminmax(erase(between, read_bits(block)[1]))
        if not low.item() == high.item() == 0:
            return False
    return True
