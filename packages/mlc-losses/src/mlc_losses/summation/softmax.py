"""Regions and cross entropy of classes that share one probability, from class numbers, by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from mlc_losses.inputs import only_where
from mlc_losses.summation.scratch import Scratch, add_scaled, erase, read_bits, read_factors, scale
from mlc_losses.summation.sigmoid import count_rows
from mlc_losses.terms import RegionTerm, VoxelTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.summation.kernels import Sums
    from mlc_losses.terms import Term

__all__ = ["CLASSES", "SoftmaxKernel"]

CLASSES = 255
"""How many class numbers fit into the bytes that they are compared as, beside one for what is no class."""

FEW = 8
"""Up to how many classes it is faster to add one after the other than to sum over an axis with a stride."""

LIKELY = 2.0**-30
"""The probability of the right class from where on its logarithm is as good as any, and four may be multiplied."""

HARD = 1 / 32
"""What a voxel costs on average from where on the rounding of probabilities next to 1 does not show."""


ODD = (torch.int8, torch.uint16, torch.uint32, torch.uint64)
"""Dtypes that cannot be compared with 255, or not at all."""


class SoftmaxKernel:
    """One region term and one of cross entropy, focal or not, or either.

    Of one-hot targets there is one block at a time.
    """

    block = 524_288

    def __init__(self, terms: Sequence[Term], dtype: torch.dtype) -> None:
        self.terms = terms
        self.dtype = dtype
        self.region = next((one for one in terms if isinstance(one, RegionTerm)), None)
        self.voxel = next((one for one in terms if isinstance(one, VoxelTerm)), None)
        self.scratch = Scratch()
        self.labels: dict[int, Tensor] = {}

    def fill(self, pred: Tensor, out: Tensor) -> bool:
        """Write probabilities into *out* where it and *pred* are whole.

        Of part of the voxels a softmax is up to five times as slow: torch copies the part, and the result back.
        """
        whole = pred.dtype == out.dtype == self.dtype and pred.is_contiguous()
        if whole:
            torch.softmax(pred, 1, out=out)
        return whole

    def add(self, block: Inputs, kept: Tensor | None, *, filled: bool) -> Sums:
        """Return the sums of each term over *block*."""
        counted, bits = read_bits(block)
        p, t = self._read(block, bits, kept, filled=filled)
        spare = torch.mul(p, t, out=self.scratch.take("spare", p, p.dtype))
        right = self._add_up(spare)
        count, present = count_rows(block, counted, self.scratch, self.dtype), t.sum(-1)
        found: dict[Term, Sequence[Tensor]] = {}
        if self.region is not None:
            overlap = spare.sum(-1)
            size = torch.mul(p, p, out=spare).sum(-1) if self.region.squared else p.sum(-1)
            found[self.region] = (overlap, size, present, present, count)
        if self.voxel is not None:
            if not self.voxel.gamma and not self.voxel.by_class:
                cost = self._sum_costs(block, p, t, right, counted, bits)
            else:
                costs, others = self._cost(block, p, t, right, counted, bits)
                if self.voxel.gamma:
                    costs = costs * others.pow(self.voxel.gamma)
                if self.voxel.by_class:
                    cost = torch.mul(t, costs.unsqueeze(1), out=spare).sum(-1)
                else:
                    cost = costs.sum(-1, keepdim=True)
            found[self.voxel] = (cost, present if self.voxel.by_class else count[:, :1])
        return [found[term] for term in self.terms]

    def release(self) -> None:
        """Let go of the buffers."""
        self.scratch.clear()
        self.labels.clear()

    def differentiate(self, block: Inputs, slopes: Sequence[Tensor], out: Tensor, *, kept: bool) -> None:
        """Write the gradient of the prediction into *out*.

        With `y` the gradient of each probability times that probability it is `y - p·Σy`.
        """
        counted, bits = read_bits(block)
        working = out.dtype == self.dtype
        p, t = self._read(block, bits, out if working else None, filled=kept)
        of = dict(zip(self.terms, slopes, strict=True))
        if self.region is None and self.voxel == VoxelTerm():
            if not block.hard:  # what is of no class costs nothing
                p.mul_(self._read_labels(block) < p.shape[1])
            erase(p.sub_(t).mul_(of[self.voxel][0, ..., None]), bits)
        else:
            y = self.scratch.take("spare", p, p.dtype)
            costs = None
            if self.voxel is not None and self.voxel.gamma:
                right = self._add_up(torch.mul(p, t, out=y))
                costs = self._differentiate_focal(*self._cost(block, p, t, right, counted, bits), right)
            self._weigh(p, t, y, costs, of)
            erase(torch.addcmul(y, p, self._add_up(y).unsqueeze(1), value=-1, out=p), bits)
        if p is not out:
            out.copy_(p)

    def _read(self, block: Inputs, bits: Tensor | None, p: Tensor | None, *, filled: bool) -> tuple[Tensor, Tensor]:
        """Return probabilities, in *p* if that is given, and targets, `(b, C, m)`, 0 where nothing counts."""
        p = self.scratch.take("p", block.pred, self.dtype) if p is None else p
        if not filled:
            torch.softmax(self.scratch.widen("x", block.pred, self.dtype), 1, out=p)
        erase(p, bits)
        t = self.scratch.take("t", block.pred, self.dtype)
        numbers = torch.arange(t.shape[1], dtype=torch.uint8, device=t.device).view(1, -1, 1)
        return p, erase(torch.eq(self._read_labels(block), numbers, out=t), bits)

    def _read_labels(self, block: Inputs) -> Tensor:
        """Return class numbers as bytes, `(b, 1, m)`, which are kept: the gradient wants them again.

        What is no class is 255, where nobody has looked and refused it.
        """
        place = block.target.data_ptr()
        if place not in self.labels:
            target = block.target
            if not block.hard and target.dtype != torch.uint8:
                target = target.to(torch.int64) if target.dtype in ODD else target
                target = torch.where((target < 0) | (target > CLASSES), CLASSES, target)
            self.labels[place] = target.to(torch.uint8).unsqueeze(1)
        return self.labels[place]

    def _add_up(self, values: Tensor) -> Tensor:
        """Return the sum over classes, `(b, m)`."""
        out = self.scratch.take("right", values, values.dtype, shape=(values.shape[0], values.shape[2]))
        if values.shape[1] > FEW:
            return torch.sum(values, 1, out=out)
        first, second, *others = values.unbind(1)
        torch.add(first, second, out=out)
        for one in others:
            out.add_(one)
        return out

    def _sum_costs(
        self, block: Inputs, p: Tensor, t: Tensor, right: Tensor, counted: Tensor | None, bits: Tensor | None
    ) -> Tensor:
        """Return the sum of cross entropies, `(b, 1)`."""
        if _logarithm_serves(right, counted):
            even = right.shape[-1] // 4 * 4
            sums = right[:, even:].log().sum(-1, keepdim=True)
            if even:
                sums += right[:, :even].view(len(right), 4, -1).prod(-2).log_().sum(-1, keepdim=True)
            if sums.max().item() < -HARD * right.shape[-1]:
                return -sums
        return self._cost(block, p, t, right, counted, bits)[0].sum(-1, keepdim=True)

    def _cost(
        self, block: Inputs, p: Tensor, t: Tensor, right: Tensor, counted: Tensor | None, bits: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the cross entropy of each voxel and the probability of all wrong classes, `(b, m)`.

        Where the right class has nearly all of the probability, what the others have says how much is missing:
        1 minus a rounded number near 1 does not.
        """
        tiny = torch.finfo(p.dtype).tiny
        if not _logarithm_serves(right, counted):
            labels = only_where(counted, self._read_labels(block), 0).squeeze(1)
            known = labels < p.shape[1]
            costs = functional.cross_entropy(block.pred.to(p.dtype), only_where(known, labels).long(), reduction="none")
            costs = only_where(known, erase(costs.unsqueeze(1), bits).squeeze(1))
            return costs, torch.expm1(-costs).neg_().clamp_min_(tiny)
        others = torch.addcmul(p, p, t, value=-1, out=self.scratch.take("others", p, p.dtype)).sum(1)
        return torch.log(right).neg_().add_(right - 1).add_(others), others.clamp_min(tiny)

    def _differentiate_focal(self, costs: Tensor, others: Tensor, right: Tensor) -> Tensor:
        """Return minus the derivative of `others^gamma·costs` by the right class's probability, times that."""
        assert self.voxel is not None
        gamma = self.voxel.gamma
        return costs.mul_(right).mul_(gamma).add_(others).mul_(others.pow(gamma - 1))

    def _weigh(self, p: Tensor, t: Tensor, y: Tensor, costs: Tensor | None, of: dict[Term, Tensor]) -> None:
        """Write into *y* the gradient of each probability times that probability."""
        nothing = p.new_zeros(p.shape[:2])
        overlap, size = (nothing, nothing) if self.region is None else of[self.region][:2]
        rise = nothing if self.voxel is None else of[self.voxel][0].expand(p.shape[:2])
        squared = self.region is not None and self.region.squared
        falls = rise.neg().unsqueeze(-1).unbind(1)
        spare = self.scratch.take("row", p, p.dtype, shape=(p.shape[0], p.shape[2]))
        rows = (p.unbind(1), t.unbind(1), y.unbind(1), read_factors(overlap), read_factors(size), falls)
        for p_k, t_k, y_k, overlap_k, size_k, fall_k in zip(*rows, strict=True):
            if costs is None:
                scale(p_k, overlap_k, fall_k, out=y_k)
            else:
                add_scaled(p_k, overlap_k, torch.mul(costs, fall_k, out=y_k), spare)
            y_k.mul_(t_k)
            if squared:
                y_k.addcmul_(p_k, torch.mul(p_k, 2 * size_k, out=spare))
            else:
                add_scaled(p_k, size_k, y_k, spare)


def _logarithm_serves(right: Tensor, counted: Tensor | None) -> bool:
    """Return whether no voxel that counts has a right class too unlikely for a logarithm; makes the others likely."""
    if right.device.type != "cpu":
        return False  # to look would be to wait for the device
    if counted is not None:
        right.masked_fill_(~counted.squeeze(1), 1)
    return right.min().item() > LIKELY
