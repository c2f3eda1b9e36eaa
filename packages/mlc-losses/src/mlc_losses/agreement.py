"""What the components of a combination are told about its tensors, and in which form they get them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_losses.base import SegmentationLoss
from mlc_losses.errors import LossConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mlc_losses.inputs import Inputs
    from mlc_losses.options import Reduction
    from mlc_losses.protocols import Loss

__all__ = ["agree", "agree_reduction", "as_given"]


def agree(components: Mapping[str, Loss], **facts: object) -> Mapping[str, object]:
    """Return what all of our own *components* and the caller say about the tensors, `None` for nothing.

    Raises:
        LossConfigError: If they disagree.
    """
    ours = {name: one for name, one in components.items() if isinstance(one, SegmentationLoss)}
    agreed: dict[str, object] = {}
    for fact, told in facts.items():
        said = {name: getattr(one, fact) for name, one in ours.items()}
        if told is not None:
            said["the combination"] = told
        if len(set(said.values())) > 1:
            msg = f"components read the same tensors but disagree about {fact}: {said}; say {fact} once, for all"
            raise LossConfigError(msg)
        agreed[fact] = next(iter(said.values()), {"mode": "multilabel", "from_logits": True}.get(fact))
    return agreed


def agree_reduction(components: Mapping[str, Loss]) -> Reduction:
    """Return the reduction of all *components*.

    Raises:
        LossConfigError: If they disagree, or about whether they add up over processes.
    """
    for option in ("reduction", "distributed"):
        said = {name: getattr(one, option) for name, one in components.items() if hasattr(one, option)}
        if len(set(said.values())) > 1:
            msg = f"components are added up but disagree about {option}: {said}; say {option} once, for all"
            raise LossConfigError(msg)
    return next((one.reduction for one in components.values() if hasattr(one, "reduction")), "mean")


def as_given(inputs: Inputs) -> tuple[Tensor, Tensor, Mapping[str, Tensor | None]]:
    """Return the tensors as a loss that is not ours takes them, with what is ignored in the mask."""
    counted = inputs._replace(weight=None).counted()
    given: dict[str, Tensor | None] = {"mask": None if counted is None else _unfold(counted, inputs)}
    if inputs.weight is not None:
        given["weight"] = _unfold(inputs.weight, inputs)
    return _unfold(inputs.pred, inputs), _unfold(inputs.target, inputs), given


def _unfold(one: Tensor, inputs: Inputs) -> Tensor:
    return one.reshape(*one.shape[:-1], *inputs.spatial)
