"""How large gradients are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from mlc_trainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_trainer.engine import Engine, Position
    from mlc_trainer.observers.protocol import RunRecord

__all__ = ["GradientNorm"]


class GradientNorm:
    """Logs the norm of the gradient, before it is clipped, as `grad_norm`.

    Args:
        every: Only at steps whose number is a multiple of it, among those that are logged.
        modules: Also for each child of the model, as `grad_norm_<child>`.

    Raises:
        ConfigError: If *every* is less than 1.
    """

    def __init__(self, *, every: int = 1, modules: bool = False) -> None:
        if every < 1:
            msg = f"every = {every} must be 1 or more"
            raise ConfigError(msg)
        self._every = every
        self._modules = modules

    def run_started(self, run: RunRecord, position: Position) -> None:
        """Do nothing."""

    def batch_awaited(self, position: Position) -> None:
        """Do nothing."""

    def step_began(self, position: Position, samples: int) -> None:
        """Do nothing."""

    def step_ended(self, position: Position) -> None:
        """Do nothing."""

    def numbers(self, engine: Engine, values: Mapping[str, float]) -> Mapping[str, float]:
        """Return the norms; waits for the device once."""
        if engine.position.step % self._every:
            return {}
        parts = {"grad_norm": engine.model}
        if self._modules:
            parts |= {f"grad_norm_{name}": child for name, child in engine.model.named_children()}
        found = {name: [one.grad for one in part.parameters() if one.grad is not None] for name, part in parts.items()}
        if any(isinstance(one, DTensor) for one in found["grad_norm"]):
            msg = "gradients are sharded, and one process cannot measure them; training.clip_norm logs their norm"
            raise ConfigError(msg)
        norms = {name: get_total_norm(gradients) for name, gradients in found.items() if gradients}
        numbers = dict(zip(norms, torch.stack(list(norms.values())).tolist(), strict=True)) if norms else {}
        whole = numbers.get("grad_norm", 0.0)
        scale = values["grad_norm"] / whole if "grad_norm" in values and whole else 1.0  # clipped since it was measured
        return {name: number * scale for name, number in numbers.items()}

    def step_logged(self, position: Position, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def epoch_ended(self, position: Position, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def rolled_back(self, position: Position) -> None:
        """Do nothing."""

    def checkpoint_saved(self, position: Position, location: str) -> None:
        """Do nothing."""

    def run_ended(self, position: Position, error: BaseException | None) -> None:
        """Do nothing."""
