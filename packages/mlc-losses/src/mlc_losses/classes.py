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

__all__ = ["JudgesClasses", "explain_classes", "explain_smoothing", "judged_classes", "weigh_classes"]


class JudgesClasses(Protocol):
    """A loss with options about classes."""

    include_background: bool

    @property
    def class_weights(self) -> Sequence[float] | None:
        """How much each channel counts."""


def judged_classes(loss: JudgesClasses, inputs: Inputs) -> Tensor:
    """Return which channels *loss* judges, `(C,)`: not one that is ignored, nor the background where that is left out.

    Raises:
        LossInputError: If none is left.
    """
    channels = inputs.pred.shape[1]
    judged = [number != inputs.ignore_index or not inputs.softmax for number in range(channels)]
    judged[0] &= loss.include_background
    if not any(judged):
        msg = f"pred has {channels} channels; include_background=False and ignore_index leave none to judge"
        raise LossInputError(msg)
    return torch.tensor(judged, device=inputs.pred.device)


def weigh_classes(loss: JudgesClasses, inputs: Inputs) -> Tensor:
    """Return how much each channel counts, `(C,)`.

    Raises:
        LossInputError: If the loss has weights for another number of channels.
    """
    channels, device = inputs.pred.shape[1], inputs.pred.device
    if loss.class_weights is None:
        return torch.ones(channels, dtype=sum_dtype(device), device=device)
    if len(loss.class_weights) != channels:
        msg = f"pred has {channels} channels, but there are {len(loss.class_weights)} class_weights; give one for each"
        raise LossInputError(msg)
    return torch.tensor(loss.class_weights, dtype=sum_dtype(device), device=device)


def explain_classes(loss: JudgesClasses) -> str:
    """Say what `explain` says of classes, nothing where all count alike."""
    background = "" if loss.include_background else ", without channel 0"
    if loss.class_weights is None:
        return background
    return f"{background}, channels weigh {' : '.join(f'{one:g}' for one in loss.class_weights)}"


def explain_smoothing(smoothing: float) -> str:
    """Say what `explain` says of label smoothing, nothing where there is none."""
    return f", t smoothed to t·{1 - smoothing:g} + {smoothing:g}/K" if smoothing else ""
