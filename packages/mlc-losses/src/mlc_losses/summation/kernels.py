"""What a kernel is: the sums of one block, and their gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import torch
from torch import Tensor

from mlc_losses.summation.plain import sum_plain

if TYPE_CHECKING:
    from mlc_losses.inputs import Inputs
    from mlc_losses.terms import Term

__all__ = ["AnyKernel", "Kernel", "Sums"]

Sums: TypeAlias = Sequence[Sequence[Tensor]]
"""For each term its sums by kind, each of them `(b, K)`."""


class Kernel(Protocol):
    """Sums of one block and what they mean for its prediction, without a graph.

    A kernel is made for one evaluation, and lives until its gradient has been asked for.
    """

    @property
    def block(self) -> int:
        """About how many values of the prediction it likes at a time, on a CPU."""

    def fill(self, pred: Tensor, out: Tensor) -> bool:
        """Return whether *out* now holds what `add` leaves there of all of *pred*: it may be quicker all at once."""

    def add(self, block: Inputs, kept: Tensor | None, *, filled: bool) -> Sums:
        """Return the sums of each term over *block*.

        Args:
            block: Part of the inputs.
            kept: The shape of *block.pred* in the working dtype, or `None`: whatever is left there comes back in
                `differentiate`.
            filled: Whether *kept* holds what `fill` wrote.
        """

    def differentiate(self, block: Inputs, slopes: Sequence[Tensor], out: Tensor, *, kept: bool) -> None:
        """Write the gradient of the prediction into *out*.

        Args:
            block: The same part.
            slopes: The gradient of each term's sums, in the shape of the sums of this block, in the working dtype.
            out: The shape of *block.pred*, in its dtype.
            kept: Whether *out* holds what `fill` or `add` left there.
        """

    def release(self) -> None:
        """Let go of what only saves time in the next block: a value may outlive its gradient by a training step."""


class AnyKernel:
    """Every term with every option, by autograd on one block at a time."""

    block = 196_608

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = terms

    def fill(self, pred: Tensor, out: Tensor) -> bool:
        """Leave *out* alone."""
        return False

    def add(self, block: Inputs, kept: Tensor | None, *, filled: bool) -> Sums:
        """Return the sums of each term over *block*."""
        return [one.unbind(0) for one in sum_plain(block, self.terms)]

    def differentiate(self, block: Inputs, slopes: Sequence[Tensor], out: Tensor, *, kept: bool) -> None:
        """Write the gradient of the prediction into *out*."""
        with torch.enable_grad():
            leaf = block.pred.detach().requires_grad_()
            sums = sum_plain(block._replace(pred=leaf), self.terms)
            (gradient,) = torch.autograd.grad(
                sums, leaf, [slope.to(one.dtype) for slope, one in zip(slopes, sums, strict=True)]
            )
        out.copy_(gradient)

    def release(self) -> None:
        """Do nothing: there is nothing to let go of."""
