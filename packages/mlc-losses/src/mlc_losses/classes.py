"""Which classes a loss judges, and how much each of them counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from mlc_losses.errors import LossInputError
from mlc_losses.inputs import sum_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mlc_losses.inputs import Inputs

__all__ = ["JudgesClasses", "explain_classes", "explain_smoothing", "weigh_classes"]


class JudgesClasses(Protocol):
    """A loss with options about classes."""

    include_background: bool

    @property
    def class_weights(self) -> Sequence[float] | None:
        """How much each channel counts."""


def weigh_classes(loss: JudgesClasses, inputs: Inputs) -> Tensor | None:
    """Return how much each channel counts, `(C,)`, or `None` where all count the same.

    A channel that is ignored counts 0, and so does the background where that is left out.

    Raises:
        LossInputError: If the loss has weights for another number of channels, or none is left to judge.
    """
    channels, device = inputs.pred.shape[1], inputs.pred.device
    weights = list(loss.class_weights or [1.0] * channels)
    if len(weights) != channels:
        msg = f"pred has {channels} channels, but there are {len(weights)} class_weights; give one for each"
        raise LossInputError(msg)
    if not loss.include_background:
        weights[0] = 0.0
    if inputs.softmax:
        weights = [0.0 if number == inputs.ignore_index else one for number, one in enumerate(weights)]
    if not any(weights):
        msg = f"pred has {channels} channels; class_weights, include_background and ignore_index leave none to judge"
        raise LossInputError(msg)
    if weights == [1.0] * channels:
        return None
    return torch.tensor(weights, dtype=sum_dtype(device), device=device)


def explain_classes(loss: JudgesClasses) -> str:
    """Say what `explain` says of classes, nothing where all count alike."""
    background = "" if loss.include_background else ", without channel 0"
    if loss.class_weights is None:
        return background
    return f"{background}, channels weigh {' : '.join(f'{one:g}' for one in loss.class_weights)}"


def explain_smoothing(smoothing: float) -> str:
    """Say what `explain` says of label smoothing, nothing where there is none."""
    return f", t smoothed to t·{1 - smoothing:g} + {smoothing:g}/K" if smoothing else ""
