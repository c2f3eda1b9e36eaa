"""What operations compute in, and the scale that keeps half-precision gradients from vanishing."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch

from mlc_trainer.errors import ConfigError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor

__all__ = ["Precision"]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Mixed precision (Micikevicius et al. 2018, "Mixed precision training").

    Args:
        name: `fp32`, `bf16` or `fp16`, which alone needs a scale.
        device: Where training takes place.

    Raises:
        ConfigError: If the device cannot compute in it.
    """

    def __init__(self, name: Literal["fp32", "bf16", "fp16"], device: torch.device) -> None:
        self._dtype = DTYPES.get(name)
        self._device = device.type
        self._full = nullcontext()
        if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
            msg = f"precision = 'bf16' cannot be had on {torch.cuda.get_device_name(device)}; take 'fp16'"
            raise ConfigError(msg)
        self.scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None
        """What grows and shrinks the loss, and belongs to what is saved."""

    def cast(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass."""
        return self._full if self._dtype is None else torch.autocast(self._device, self._dtype)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of *loss*, scaled if need be."""
        torch.autograd.backward(loss if self.scaler is None else self.scaler.scale(loss))

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Make gradients what they are, before they are measured or clipped."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Take the optimizer's step, and return whether it was taken: a scale that was too large costs one."""
        if self.scaler is None:
            optimizer.step()
            return True
        before = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        return bool(self.scaler.get_scale() >= before)
