"""The same loss at several resolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from mlc_losses.breakdown import break_up
from mlc_losses.combined import CombinedLoss
from mlc_losses.errors import LossConfigError, LossInputError
from mlc_losses.options import require_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mlc_losses.protocols import Loss
    from mlc_losses.records import Breakdown

__all__ = ["DeepSupervisionLoss"]


class DeepSupervisionLoss(nn.Module):
    """A weighted mean of one *loss* over the outputs of a network at several resolutions (Lee et al. 2015).

    Target, mask and weight come at the resolution of the first output. For the others the voxel that is nearest to the
    centre is taken, so class numbers stay class numbers, of every dtype.

    The weights are divided by their sum, so that the loss, and with it the learning rate, keeps its scale.

    Args:
        loss: Any loss of this package or of a plugin.
        weights: One for each output, at least 0 and not all 0. The default halves from one to the next: 1, 1/2, 1/4, …
            An output of weight 0 is not looked at, so its parameters get no gradient.

    Raises:
        LossConfigError: If the weights are none.
    """

    def __init__(self, loss: Loss, *, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not isinstance(loss, nn.Module):
            msg = f"deep supervision is of a loss that derives from torch.nn.Module, not of {loss!r}"
            raise LossConfigError(msg)
        if getattr(loss, "reduction", None) == "none":
            msg = "deep supervision adds up numbers, and reduction='none' gives maps; give 'mean', 'sum' or 'sample'"
            raise LossConfigError(msg)
        self.loss = loss
        self.level_weights: tuple[float, ...] | None = None
        if weights is not None:
            self.level_weights = tuple(require_number(f"weights[{i}]", one) for i, one in enumerate(weights))
            if not any(self.level_weights):
                msg = f"weights of deep supervision are {list(weights)}; give one for each output, one above 0 at least"
                raise LossConfigError(msg)

    def forward(
        self,
        pred: Sequence[Tensor],
        target: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of the outputs *pred*, the finest first; see the loss itself for the tensors.

        Raises:
            LossInputError: If there is another number of outputs than weights, or as the loss itself.
        """
        shares, outputs = self._share(pred, target, mask, weight)
        values = [
            self.loss(one, _shrink(one, target), **_shrink_all(one, mask, weight), **self._tell(share))
            for share, one in zip(shares, outputs, strict=True)
        ]
        return _add_up(shares, values)

    def get_loss_components(
        self,
        pred: Sequence[Tensor],
        target: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return what each component has to say, and the total, by name and from one pass; see `CombinedLoss`.

        Values, and what is weighted, are means over resolutions, as the total is.

        Raises:
            LossConfigError: If the loss is no combination.
            LossInputError: As `forward`.
        """
        return self.break_down(pred, target, mask=mask, weight=weight).by_name()

    def break_down(
        self,
        pred: Sequence[Tensor],
        target: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Breakdown:
        """Return the total of a combined loss with what each component contributes to it, means over resolutions.

        Raises:
            LossConfigError: If the loss is no combination.
            LossInputError: As `forward`.
        """
        loss: object = self.loss
        if not isinstance(loss, CombinedLoss):
            msg = f"{type(loss).__name__} has no components; give deep supervision a combined loss"
            raise LossConfigError(msg)
        shares, outputs = self._share(pred, target, mask, weight)
        found = [
            loss.break_down(one, _shrink(one, target), **_shrink_all(one, mask, weight), share=share)
            for share, one in zip(shares, outputs, strict=True)
        ]
        total = _add_up(shares, [one.total for one in found])
        parts = {
            same[0].name: (
                _add_up(shares, [part.value for part in same]),
                same[0].weight,
                _add_up(shares, [part.weighted for part in same]),
            )
            for same in zip(*(one.parts for one in found), strict=True)
        }
        return break_up(total, parts, found[0].regulariser)

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        weights = self.level_weights or (1, 0.5, 0.25)
        more = "" if self.level_weights else " : …"
        told = " : ".join(f"{one:g}" for one in weights)
        return f"Mean over the network's outputs, from the finest on, weighing {told}{more}, of\n{self.loss.explain()}"

    def _tell(self, share: float) -> dict[str, float]:
        """Tell a combined loss how much an output counts in what it remembers; other losses need not know."""
        loss: object = self.loss
        return {"share": share} if isinstance(loss, CombinedLoss) else {}

    def _share(
        self, pred: Sequence[Tensor] | Tensor, target: Tensor, mask: Tensor | None, weight: Tensor | None
    ) -> tuple[Sequence[float], Sequence[Tensor]]:
        """Return the share of each output and the outputs; a single tensor is the finest, as in evaluation."""
        outputs = (pred,) if isinstance(pred, torch.Tensor) else pred
        if not isinstance(outputs, (list, tuple)) or not all(isinstance(one, torch.Tensor) for one in outputs):
            msg = f"pred is {type(pred).__name__}; give the outputs of the network as a list, the finest first"
            raise LossInputError(msg)
        weights = self.level_weights or tuple(0.5**level for level in range(len(outputs)))
        if isinstance(pred, torch.Tensor):
            weights = (1.0,)
        if len(weights) != len(outputs) or not outputs:
            msg = f"the network has {len(outputs)} outputs, but deep supervision has {len(weights)} weights"
            raise LossInputError(msg)
        _check_sizes(outputs, {"target": target, "mask": mask, "weight": weight})
        judged = [(one / sum(weights), output) for one, output in zip(weights, outputs, strict=True) if one]
        return [share for share, _ in judged], [output for _, output in judged]


def _check_sizes(outputs: Sequence[Tensor], given: Mapping[str, Tensor | None]) -> None:
    """Refuse tensors that are not of the size of the finest output, and outputs that are not the finest first.

    What is not of its number of axes either is left to the loss itself.
    """
    finest = tuple(outputs[0].shape[2:])
    for name, one in given.items():
        if not isinstance(one, torch.Tensor) or one.dim() not in {outputs[0].dim() - 1, outputs[0].dim()}:
            continue
        size = tuple(one.shape[one.dim() - len(finest) :])
        if size != finest:
            msg = (
                f"{name} is {tuple(one.shape)} but the first output {tuple(outputs[0].shape)}; give {name} at the "
                f"resolution {finest} of the finest output, and that output first"
            )
            raise LossInputError(msg)
    for number, (one, last) in enumerate(zip(outputs[1:], outputs, strict=False), start=1):
        if one.dim() != last.dim() or any(new > old for new, old in zip(one.shape[2:], last.shape[2:], strict=True)):
            msg = (
                f"outputs[{number}] is {tuple(one.shape)} and outputs[{number - 1}] {tuple(last.shape)}; give the "
                f"outputs from the finest to the coarsest"
            )
            raise LossInputError(msg)


def _add_up(shares: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    total = shares[0] * values[0]
    for share, value in zip(shares[1:], values[1:], strict=True):
        total = total + share * value
    return total


def _shrink_all(output: Tensor, mask: Tensor | None, weight: Tensor | None) -> dict[str, Tensor]:
    given = {"mask": mask, "weight": weight}
    return {name: _shrink(output, one) for name, one in given.items() if one is not None}


def _shrink(output: Tensor, one: Tensor) -> Tensor:
    """Return *one* at the resolution of *output*, taking the voxel that is nearest to each centre."""
    spatial = output.shape[2:]
    first = one.dim() - len(spatial)
    if first < 1:
        return one  # which the loss itself refuses
    for axis, size in enumerate(spatial, start=first):
        old = one.shape[axis]
        if not 0 < size < old:
            continue  # the same, or what the loss itself refuses
        nearest = ((torch.arange(size, device=one.device) * 2 + 1) * old) // (2 * size)
        one = one.index_select(axis, nearest)
    return one
