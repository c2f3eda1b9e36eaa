"""Optimizers that do a step in one kernel, where optimizer and device can."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal

from torch.utils._foreach_utils import _get_fused_kernels_supported_devices

from mlc_trainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

__all__ = ["with_fused"]


def with_fused(
    kind: type[torch.optim.Optimizer],
    options: Mapping[str, Any],
    fused: Literal["auto", True, False],
    device: torch.device,
) -> Mapping[str, Any]:
    """Return the *options* of an optimizer of *kind*, with what *fused* comes to on *device*.

    `auto` is yes on CUDA alone, and no where *options* choose an implementation themselves. No is what torch does by
    default, so that nothing is passed.

    Raises:
        ConfigError: If it is to be fused and cannot be.
    """
    chosen = [name for name in ("fused", "foreach", "capturable", "differentiable") if options.get(name) is not None]
    if fused is False or (fused == "auto" and (chosen or device.type != "cuda")):
        if fused is False and options.get("fused"):
            msg = "training.fused = false and optimizer.options.fused = true contradict each other; leave one out"
            raise ConfigError(msg)
        return options
    supported = "fused" in inspect.signature(kind).parameters
    if fused == "auto":
        return {**options, "fused": True} if supported else options
    if not supported or device.type not in _get_fused_kernels_supported_devices():
        what = kind.__name__ if not supported else f"{kind.__name__} on {device.type}"
        msg = f"training.fused = true, and torch has no fused {what}; 'auto' takes it where there is one"
        raise ConfigError(msg)
    if set(chosen) - {"fused"} or options.get("fused") is False:
        msg = f"training.fused = true contradicts optimizer.options.{chosen[0]} = {options[chosen[0]]!r}; leave one out"
        raise ConfigError(msg)
    return {**options, "fused": True}
