"""One training step, in one written order, and everything a step changes.

    fetch → seed → forward → loss → backward → clip → optimizer → schedule → counters → [save point]

A checkpoint is taken at the save point and nowhere else: what is prefetched is not consumed, and half a step is none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs
import torch

from mlc_trainer.errors import NonFiniteLossError
from mlc_trainer.measure import loss_values, split
from mlc_trainer.randomness import STEP, mix, seed_generators

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mlc_losses import Loss

__all__ = ["Engine", "Position"]


@attrs.frozen(kw_only=True)
class Position:
    """How far training has come."""

    epoch: int = 0
    """Epochs completed."""
    batch: int = 0
    """Batches consumed in the epoch that is under way."""
    step: int = 0
    """Optimizer steps taken."""


class Engine:
    """A model and what trains it.

    Args:
        model: On *device* already.
        loss: Takes prediction and target.
        optimizer: Over the model's parameters.
        scheduler: A learning-rate schedule, or None.
        scheduler_every: Whether it is stepped after every `step` or every `epoch`.
        device: Where batches go.
        seed: Of what is drawn within steps.
        clip_norm: Gradients are scaled to this norm where they exceed it.
    """

    def __init__(
        self,
        *,
        model: torch.nn.Module,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        seed: int,
        scheduler: Any = None,
        scheduler_every: str = "step",
        clip_norm: float | None = None,
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.device = device
        self.position = Position()
        self._seed = seed
        self._scheduler_every = scheduler_every
        self._clip_norm = clip_norm
        self._sums: dict[str, Tensor] = {}
        self._samples = 0

    def train_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """Train on *batch*, a pair of input and target, and return the loss and its components, still on the device.

        Raises:
            ConfigError: If it is no pair.
        """
        inputs, targets = split(batch, self.device)
        seed_generators(mix(STEP, self._seed, self.position.step), self.device)
        self.model.train()
        values = loss_values(self.loss, self.model(inputs), targets)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(values["loss"])
        if self._clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm)
        self.optimizer.step()
        if self.scheduler is not None and self._scheduler_every == "step":
            self.scheduler.step()
        return self._count(values, len(inputs))

    def end_epoch(self) -> dict[str, float]:
        """Close the epoch and return the mean of the loss and of each component over its samples.

        Raises:
            NonFiniteLossError: If the loss was NaN or infinite at some step; the epoch is not to be kept.
        """
        self.check_finite()
        means = {f"train_{name}": float(total) / self._samples for name, total in self._sums.items()}
        if self.scheduler is not None and self._scheduler_every == "epoch":
            self.scheduler.step()
        self._sums, self._samples = {}, 0
        self.position = Position(epoch=self.position.epoch + 1, step=self.position.step)
        return means

    def check_finite(self) -> None:
        """Make sure that this is a state to go on from: asked before every save, because it waits for the device.

        Raises:
            NonFiniteLossError: If a loss of this epoch was NaN or infinite, or a weight is.
        """
        loss = float(self._sums["loss"]) if self._sums else 0.0
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        if not math.isfinite(loss):
            what = f"the training loss of epoch {self.position.epoch + 1} is {loss}"
        elif not torch.stack([weight.isfinite().all() for weight in weights]).all():
            what = f"the loss is finite and weights are not, after step {self.position.step}"
        else:
            return
        msg = (
            f"{what}; the last checkpoint is from before. Lower the learning rate, set training.clip_norm, or look at "
            "the data"
        )
        raise NonFiniteLossError(msg)

    @property
    def learning_rate(self) -> float:
        """The rate of the first parameter group at the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Return the position and the running sums: what neither model nor optimizer know."""
        return {"position": attrs.asdict(self.position), "sums": self._sums, "samples": self._samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from *state*."""
        self.position = Position(**state["position"])
        self._sums = {name: total.to(self.device) for name, total in state["sums"].items()}
        self._samples = state["samples"]

    def _count(self, values: Mapping[str, Tensor], samples: int) -> dict[str, Tensor]:
        detached = {name: value.detach() for name, value in values.items()}
        for name, value in detached.items():
            self._sums[name] = self._sums.get(name, 0) + value.double() * samples
        self._samples += samples
        self.position = attrs.evolve(self.position, batch=self.position.batch + 1, step=self.position.step + 1)
        return detached
