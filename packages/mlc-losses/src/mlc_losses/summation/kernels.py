"""What a kernel is: the sums of one block, and their gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from mlc_losses.summation.plain import sum_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.terms import Term

__all__ = ["AnyKernel", "Kernel"]


class Kernel(Protocol):
    """Sums of one block and what they mean for its prediction, without a graph.

    A kernel is made for one evaluation, and lives until its gradient has been asked for.
    """

    def add(self, block: Inputs, kept: Tensor | None) -> Sequence[Tensor]:
        """Return the sums of each term over *block*.

        Args:
            block: Part of the inputs.
            kept: The shape of *block.pred* in the working dtype, or `None`: whatever is left there comes back in
                `differentiate`.
        """

    def differentiate(self, block: Inputs, slopes: Sequence[Tensor], out: Tensor, *, kept: bool) -> None:
        """Write the gradient of the prediction into *out*.

        Args:
            block: The same part.
            slopes: The gradient of each term's sums, in the shape of the sums of this block.
            out: The shape of *block.pred*, in its dtype.
            kept: Whether *out* holds what `add` left there.
        """


class AnyKernel:
    """Every term with every option, by autograd on one block at a time."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = terms

    def add(self, block: Inputs, kept: Tensor | None) -> Sequence[Tensor]:
        """Return the sums of each term over *block*."""
        return sum_plain(block, self.terms)

    def differentiate(self, block: Inputs, slopes: Sequence[Tensor], out: Tensor, *, kept: bool) -> None:
        """Write the gradient of the prediction into *out*."""
        with torch.enable_grad():
            leaf = block.pred.detach().requires_grad_()
            sums = sum_plain(block._replace(pred=leaf), self.terms)
            (gradient,) = torch.autograd.grad(sums, leaf, slopes)
        out.copy_(gradient)
