"""Weighted sums of losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from mlc_losses.agreement import agree, agree_reduction, as_given
from mlc_losses.base import SegmentationLoss, SummedLoss
from mlc_losses.breakdown import add_up, break_up
from mlc_losses.errors import LossConfigError
from mlc_losses.inputs import working_dtype
from mlc_losses.options import require_choice, require_number
from mlc_losses.recording import Recorder
from mlc_losses.summation import sum_terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.options import Mode, Reduction
    from mlc_losses.protocols import Loss
    from mlc_losses.records import Breakdown
    from mlc_losses.terms import Term

__all__ = ["CombinedLoss"]


class CombinedLoss(SegmentationLoss):
    """The sum of *components*, each times its weight.

    Weights are coefficients, not contributions: a focal loss is a tenth of a Dice loss, so 60/40 is not 60 % and 40 %
    of anything. `break_down` says what each part contributes.

    The component "dice" is the submodule `dice_loss`, and its weight the buffer `dice_weight`: `state_dict` carries the
    weights by name, and writing to a buffer (`loss.dice_weight.fill_(0.5)`) makes `torch.compile` trace nothing again.
    Weights are float64; for a device that has none, `.to(device, torch.float32)`.

    Inputs are checked once, here, for all components, and what our own components need summed is summed in one pass.
    A component that is not ours gets `mask` with what *ignore_index* leaves out, and `weight` where there is one.

    Args:
        components: Losses by name, each giving one number, or with reduction="sample" all one for each sample.
        weights: A weight of at least 0 for each of them, not all 0.
        mode, from_logits, ignore_index: As every loss. Left out, they are those of our own components.
        check_inputs: Whether every call checks the values of its tensors; see `SegmentationLoss`.

    Raises:
        LossConfigError: If names do not match, a weight is no weight, or the components disagree about what *pred* and
            *target* are.
    """

    def __init__(
        self,
        components: Mapping[str, Loss],
        weights: Mapping[str, float],
        *,
        mode: Mode | None = None,
        from_logits: bool | None = None,
        ignore_index: int | None = None,
        check_inputs: bool = True,
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
        agreed = agree(components, mode=mode, from_logits=from_logits, ignore_index=ignore_index)
        super().__init__(check_inputs=check_inputs, **agreed)  # type: ignore[arg-type]
        self._names = tuple(components)
        self._recorder: Recorder | None = None
        self._learnt = False
        summed = [one for one in components.values() if isinstance(one, SummedLoss)]
        self._terms = tuple(dict.fromkeys(one.term for one in summed))  # what two components want is summed once
        for name, component in components.items():
            self._add(name, component, numbers[name])
        self.reduction: Reduction = agree_reduction(components)

    def _add(self, name: str, component: Loss, weight: float) -> None:
        if not isinstance(component, nn.Module):
            msg = f"component {name!r} is {component!r}; a loss derives from torch.nn.Module"
            raise LossConfigError(msg)
        if "." in name:
            msg = f"component {name!r} has a dot in its name, which torch keeps for submodules of submodules"
            raise LossConfigError(msg)
        if getattr(component, "reduction", None) == "none":
            msg = f"component {name!r} has reduction='none'; one number each can be added up: 'mean', 'sum' or 'sample'"
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
        return {name: float(self._weight(name).detach()) for name in self._names}

    @property
    def learnt(self) -> Mapping[str, nn.Parameter]:
        """The parameters behind weights that are learnt, or nothing; see `learn_weights`."""
        return {name: self.get_parameter(f"{name}_log_variance") for name in self._names if self._learnt}

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Write *weights* into the buffers.

        Raises:
            LossConfigError: If there is no such component, or a weight is no number of at least 0.
        """
        for name in weights:
            require_choice("the component to weigh", name, self._names)
        numbers = {name: require_number(f"{name}_weight", value) for name, value in weights.items()}
        for name, value in numbers.items():
            self.get_buffer(f"{name}_weight").fill_(value)

    def learn_weights(self) -> None:
        """Make every weight e^-s / 2 of a parameter s, with s / 2 added to the loss (Kendall et al. 2018).

        The s of "dice" is the parameter `dice_log_variance`. Buffers are from here on what a `LossScheduler` reports.

        Raises:
            LossConfigError: If a weight is 0, which no s gives.
        """
        absent = [name for name, one in self.weights.items() if not one]
        if absent:
            msg = f"weights that are learnt start above 0, but {absent} have 0; leave such components out"
            raise LossConfigError(msg)
        for name in self._names if not self._learnt else ():
            self.register_parameter(f"{name}_log_variance", nn.Parameter(-(2 * self._weight(name)).log()))
        self._learnt = True

    def record(self) -> Recorder:
        """Remember from now on what the components say in training: in training mode, where there is a gradient."""
        if self._recorder is None:
            self._recorder = Recorder(self._names, self.get_buffer(f"{self._names[0]}_weight"))
        return self._recorder

    @property
    def terms(self) -> Sequence[Term]:
        """What its components need summed."""
        return self._terms

    def check(self, inputs: Inputs) -> None:
        """Refuse what one of the components does not take.

        Raises:
            LossInputError: Naming the tensor, the values that it holds, and the way out.
        """
        for component in self.components.values():
            if isinstance(component, SegmentationLoss):
                component.check(inputs)

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
        share: float = 1.0,
    ) -> Tensor:
        """Return the loss as every loss does; *share* is how much the call counts in what `record` remembers.

        Raises:
            LossInputError: As every loss.
        """
        return self.evaluate(self.read(pred, target, mask=mask, weight=weight), share=share)

    def evaluate(self, inputs: Inputs, *, share: float = 1.0) -> Tensor:
        """Return the loss of *inputs*, which are known to be good."""
        return self._total(self._weigh(self._measure(inputs, share)))

    def get_loss_components(
        self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return what each component has to say, and the total, by name and from one pass.

        Of each component there are `<name>_loss`, its own value; `<name>_weight`; `<name>_weighted`, one times the
        other; and `<name>_share`, the fraction that this is of all that is weighted. They are detached, for logs. Where
        weights are learnt there is `regulariser`, which the total has besides. `total` is what the loss itself returns,
        to the bit and with its graph, so that a training step needs no second pass.

        Raises:
            LossInputError: As `forward`.
        """
        return self.break_down(pred, target, mask=mask, weight=weight).by_name()

    def break_down(
        self,
        pred: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
        share: float = 1.0,
    ) -> Breakdown:
        """Return the total with what each component contributes to it, from one pass.

        Raises:
            LossInputError: As `forward`.
        """
        values = self._measure(self.read(pred, target, mask=mask, weight=weight), share)
        weighted = self._weigh(values)
        parts = {
            name: (value.detach(), self._weight(name).detach().clone(), part.detach())
            for name, value, part in zip(self._names, values, weighted, strict=True)
        }
        total, cost = self._total(weighted), self._cost_of_learning()
        return break_up(total, parts, None if cost is None else cost.detach().to(total.dtype))

    def explain(self) -> str:
        """Return the formula in use with its options, for people."""
        terms = " + ".join(f"{weight:g}·{name}" for name, weight in self.weights.items())
        lines = [f"Combined loss = {terms}"]
        cost = self._cost_of_learning()
        if cost is not None:
            lines = [
                f"Combined loss = Σ (exp(-s)/2·loss + s/2), s learnt for each component, now {terms} + {cost.item():g}"
            ]
        for name, component in self.components.items():
            lines += [
                f"  {name}: {line}" if not i else f"  {line}" for i, line in enumerate(component.explain().splitlines())
            ]
        return "\n".join(lines)

    def _weight(self, name: str) -> Tensor:
        if self._learnt:
            return (-self.get_parameter(f"{name}_log_variance")).exp() / 2
        return self.get_buffer(f"{name}_weight")

    def _shield(self, name: str, values: Tensor) -> Tensor:
        """Return *values* such that a component whose weight is 0 gives them no gradient, whatever its own would be."""
        if self._is_on(name):
            return values
        return torch.where(self._weight(name).to(values.device) == 0, values.detach(), values)

    def _is_on(self, name: str) -> bool:
        """Return whether the weight is not 0, and can be seen not to be without waiting or breaking a graph."""
        weight = self._weight(name)
        return self._learnt or (
            weight.device.type == "cpu" and not torch.compiler.is_compiling() and bool(weight.item())
        )

    def _measure(self, inputs: Inputs, share: float) -> Sequence[Tensor]:
        """Return the unweighted value of each component."""
        dtype = working_dtype(inputs)
        components = self.components
        summed = {name: one for name, one in components.items() if isinstance(one, SummedLoss)}
        found: dict[str, Tensor] = {}
        if summed:
            with torch.autocast(inputs.pred.device.type, enabled=False):
                sums = dict(zip(self._terms, sum_terms(inputs, self._terms), strict=True))
                found = {
                    name: one.judge(self._shield(name, sums[one.term]), inputs).to(dtype)
                    for name, one in summed.items()
                }
        for name, component in components.items():
            if isinstance(component, SummedLoss):
                continue
            shielded = inputs._replace(pred=self._shield(name, inputs.pred))
            if isinstance(component, SegmentationLoss):
                found[name] = component.evaluate(shielded)
            else:  # whoever wrote it knows whether it wants half precision
                pred, target, what_counts = as_given(shielded)
                found[name] = component(pred, target, **what_counts)
        values = [found[name] for name in self._names]
        shape = inputs.pred.shape[:1] if self.reduction == "sample" else ()
        for name, value in zip(self._names, values, strict=True):
            if value.shape != shape:
                msg = f"component {name!r} returned {tuple(value.shape)}; with {tuple(shape)} each they can be added up"
                raise LossConfigError(msg)
        if self._recorder is not None and self.training and any(one.requires_grad for one in values):
            self._recorder.add(values, share)
        return values

    def _weigh(self, values: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return each of *values* times its weight, and 0 where that is 0: 0 times infinity is NaN."""
        weighted = []
        for name, value in zip(self._names, values, strict=True):
            weight = self._weight(name).to(value.dtype, copy=True)  # the buffer may be written before the backward pass
            weighted.append(weight * (value if self._is_on(name) else torch.where(weight == 0, 0, value)))
        return weighted

    def _cost_of_learning(self) -> Tensor | None:
        """Return half of the sum of all s, without which every learnt weight would fall to 0."""
        return add_up([one / 2 for one in self.learnt.values()]) if self._learnt else None

    def _total(self, weighted: Sequence[Tensor]) -> Tensor:
        total, cost = add_up(weighted), self._cost_of_learning()
        return total if cost is None else total + cost.to(total.dtype)
