"""A moving average of the weights, which often measures better than the weights themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

if TYPE_CHECKING:
    from torch import nn

__all__ = ["average"]


def average(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of *model* that follows it: ``average = decay·average + (1 - decay)·weights`` after every step.

    Buffers, as of batch normalisation, are those of the model (Polyak and Juditsky 1992; Tarvainen and Valpola 2017).
    """
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
    averaged.requires_grad_(False)  # noqa: FBT003 - torch's own spelling
    return averaged
