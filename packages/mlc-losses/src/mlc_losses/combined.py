"""Weighted sums of losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from mlc_losses.agreement import agree, agree_reduction, as_given
from mlc_losses.base import SegmentationLoss, SummedLoss
from mlc_losses.errors import LossConfigError
from mlc_losses.inputs import working_dtype
from mlc_losses.options import require_choice, require_number
from mlc_losses.recording import Recorder
from mlc_losses.records import Breakdown, Part
from mlc_losses.summation import sum_terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.options import Mode, Reduction
    from mlc_losses.protocols import Loss
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
        return _total(self._weigh(self._measure(inputs, share)))

    def get_loss_components(
        self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return `{"<name>_loss": value, ..., "total": total}` from one pass.

        The values are unweighted and detached, for logs. The total is what the loss itself returns, to the bit and
        with its graph, so that a training step needs no second pass.

        Raises:
            LossInputError: As `forward`.
        """
        values = self._measure(self.read(pred, target, mask=mask, weight=weight), 1.0)
        total = _total(self._weigh(values))
        return {**{f"{name}_loss": one.detach() for name, one in zip(self._names, values, strict=True)}, "total": total}

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
        total = _total(weighted)
        whole = total.detach()
        parts = [
            Part(
                name=name,
                value=value.detach(),
                weight=self._weight(name).detach().clone(),
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
            lines += [
                f"  {name}: {line}" if not i else f"  {line}" for i, line in enumerate(component.explain().splitlines())
            ]
        return "\n".join(lines)

    def _weight(self, name: str) -> Tensor:
        if self._learnt:
            return (-self.get_parameter(f"{name}_log_variance")).exp() / 2
        return self.get_buffer(f"{name}_weight")

    def _measure(self, inputs: Inputs, share: float) -> Sequence[Tensor]:
        """Return the unweighted value of each component."""
        dtype = working_dtype(inputs)
        components = self.components
        summed = {name: one for name, one in components.items() if isinstance(one, SummedLoss)}
        found: dict[str, Tensor] = {}
        if summed:
            with torch.autocast(inputs.pred.device.type, enabled=False):
                sums = dict(zip(self._terms, sum_terms(inputs, self._terms), strict=True))
                found = {name: one.judge(sums[one.term], inputs).to(dtype) for name, one in summed.items()}
        for name, component in components.items():
            if isinstance(component, SummedLoss):
                continue
            if isinstance(component, SegmentationLoss):
                found[name] = component.evaluate(inputs)
            else:  # whoever wrote it knows whether it wants half precision
                pred, target, what_counts = as_given(inputs)
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
        weighted = [self._weight(name).to(one.dtype) * one for name, one in zip(self._names, values, strict=True)]
        if self._learnt:  # without the second term every weight would fall to 0
            half = [self.get_parameter(f"{name}_log_variance") / 2 for name in self._names]
            weighted = [one + more.to(one.dtype) for one, more in zip(weighted, half, strict=True)]
        return weighted


def _total(weighted: Sequence[Tensor]) -> Tensor:
    total = weighted[0]
    for one in weighted[1:]:
        total = total + one
    return total
