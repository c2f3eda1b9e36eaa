"""Weighted sums of losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from mlc_losses.base import SegmentationLoss
from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_number
from mlc_losses.records import Breakdown, Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mlc_losses.protocols import Loss

__all__ = ["CombinedLoss"]


class CombinedLoss(SegmentationLoss):
    """The sum of *components*, each times its weight.

    Weights are coefficients, not contributions: a focal loss is a tenth of a Dice loss, so 60/40 is not 60 % and 40 %
    of anything. `break_down` says what each part contributes.

    The component "dice" is the submodule `dice_loss`, and its weight the buffer `dice_weight`: `state_dict` carries the
    weights by name, and writing to a buffer (`loss.dice_weight.fill_(0.5)`) makes `torch.compile` trace nothing again.
    Weights are float64; for a device that has none, `.to(device, torch.float32)`.

    Inputs are checked once, here, for all components.

    Args:
        components: Losses by name, each giving one number.
        weights: A weight of at least 0 for each of them, not all 0.
        check_inputs: Whether every call checks the values of its tensors; see `forward`.

    Raises:
        LossConfigError: If names do not match, a weight is no weight, or the components disagree about what *pred* is.
    """

    def __init__(
        self, components: Mapping[str, Loss], weights: Mapping[str, float], *, check_inputs: bool = True
    ) -> None:
        if not components or set(components) != set(weights):
            msg = (
                f"components are {sorted(components)} but weights are {sorted(weights)}; give one or more, and the same"
            )
            raise LossConfigError(msg)
        numbers = {name: require_number(f"{name}_weight", weights[name]) for name in components}
        if not any(numbers.values()):
            msg = f"all weights of {sorted(components)} are 0, so nothing would be learnt; give one above 0"
            raise LossConfigError(msg)
        ours = {name: one for name, one in components.items() if isinstance(one, SegmentationLoss)}
        for fact in ("mode", "from_logits"):
            said = {name: getattr(one, fact) for name, one in ours.items()}
            if len(set(said.values())) > 1:
                msg = f"components read the same pred but disagree about {fact}: {said}"
                raise LossConfigError(msg)
        one = next(iter(ours.values()), None)
        super().__init__(
            mode=one.mode if one else "multilabel",  # a plugin's losses know themselves how many channels they take
            from_logits=one.from_logits if one else True,
            check_inputs=check_inputs,
        )
        self._names = tuple(components)
        for name, component in components.items():
            self._add(name, component, numbers[name])

    def _add(self, name: str, component: Loss, weight: float) -> None:
        if not isinstance(component, nn.Module):
            msg = f"component {name!r} is {component!r}; a loss derives from torch.nn.Module"
            raise LossConfigError(msg)
        if "." in name:
            msg = f"component {name!r} has a dot in its name, which torch keeps for submodules of submodules"
            raise LossConfigError(msg)
        if getattr(component, "reduction", None) == "none":
            msg = f"component {name!r} has reduction='none'; one number each can be added up: 'mean' or 'sum'"
            raise LossConfigError(msg)
        self.add_module(f"{name}_loss", component)
        self.register_buffer(f"{name}_weight", torch.tensor(weight, dtype=torch.float64))

    @property
    def components(self) -> Mapping[str, Loss]:
        """The losses by name, in order."""
        return {name: cast("Loss", getattr(self, f"{name}_loss")) for name in self._names}

    @property
    def weights(self) -> Mapping[str, float]:
        """The weights by name, as they are now."""
        return {name: float(self._weight(name)) for name in self._names}

    def compute(self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the loss of *pred* against *target*; both are known to be good."""
        return _total(self._weigh(self._measure(pred, target, mask)))

    def get_loss_components(self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Return `{"<name>_loss": value, ..., "total": total}` from one pass.

        The values are unweighted and detached, for logs. The total is what the loss itself returns, to the bit and
        with its graph, so that a training step needs no second pass.

        Raises:
            LossInputError: As `forward`.
        """
        found = self.break_down(pred, target, mask=mask)
        return {**{f"{part.name}_loss": part.value for part in found.parts}, "total": found.total}

    def break_down(self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Breakdown:
        """Return the total with what each component contributes to it, from one pass.

        Raises:
            LossInputError: As `forward`.
        """
        self.check(pred, target, mask=mask)
        values = self._measure(pred, target, mask)
        weighted = self._weigh(values)
        total = _total(weighted)
        whole = total.detach()
        parts = [
            Part(
                name=name,
                value=value.detach(),
                weight=self._weight(name).clone(),
                weighted=part.detach(),
                share=torch.where(whole == 0, whole, part.detach() / whole),
            )
            for name, value, part in zip(self._names, values, weighted, strict=True)
        ]
        return Breakdown(total=total, parts=tuple(parts))

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        weights = self.weights
        lines = [f"Combined loss = {' + '.join(f'{weights[name]:g}·{name}' for name in self._names)}"]
        for name, component in self.components.items():
            lines += [f"  {name}: {line}" if not i else f"  {line}" for i, line in enumerate(_explain(component))]
        return "\n".join(lines)

    def _weight(self, name: str) -> Tensor:
        return self.get_buffer(f"{name}_weight")

    def _measure(self, pred: Tensor, target: Tensor, mask: Tensor | None) -> Sequence[Tensor]:
        values = []
        for name, component in self.components.items():
            measure = component.compute if isinstance(component, SegmentationLoss) else component
            value = measure(pred, target, mask=mask)
            if value.dim():
                msg = f"component {name!r} returned {tuple(value.shape)}; one number each can be added up"
                raise LossConfigError(msg)
            values.append(value)
        return values

    def _weigh(self, values: Sequence[Tensor]) -> Sequence[Tensor]:
        return [self._weight(name).to(one.dtype) * one for name, one in zip(self._names, values, strict=True)]


def _total(weighted: Sequence[Tensor]) -> Tensor:
    total = weighted[0]
    for one in weighted[1:]:
        total = total + one
    return total


def _explain(component: Loss) -> Sequence[str]:
    return component.explain().splitlines()
