"""One training step, in one written order, and everything a step changes.

    fetch → seed → forward → loss → backward → clip → finite? → optimizer → rate → average → counters → [save point]

A checkpoint is taken at the save point and nowhere else: what is prefetched is not consumed, and half a step is none.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import attrs
import torch
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from mlc_trainer.averaging import MeanOfEpochs, average
from mlc_trainer.distributed import ALONE, Cut
from mlc_trainer.distributed.wrapping import gathering, rehearse
from mlc_trainer.errors import NonFiniteLossError, NonFiniteStepError
from mlc_trainer.means import ADVICE, RunningMeans
from mlc_trainer.measure import bind_loss, lay_out, split, take_none
from mlc_trainer.modes import modes_of, restore_modes
from mlc_trainer.precision import Precision
from mlc_trainer.randomness import STEP, mix, seed_generators

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor, nn

    from mlc_losses import Loss, LossScheduler
    from mlc_trainer.distributed import World
    from mlc_trainer.rates import LearningRate

__all__ = ["Engine", "Position"]

PATIENCE = 10
"""Batches in a row that may be passed over; more of them mean that it is not the batches."""
REFUSALS = 40
"""Steps in a row that a scaler may refuse: from the largest scale it is halved sixteen times until it is 1."""


@attrs.frozen(kw_only=True)
class Position:
    """How far training has come."""

    epoch: int = 0
    """Epochs completed."""
    batch: int = 0
    """Batches consumed in the epoch that is under way."""
    step: int = 0
    """Batches consumed since the beginning, each of them a step of the optimizer unless it was passed over."""


class Engine:
    """A model and what trains it.

    Args:
        model: On *device* already.
        loss: Takes prediction and target.
        optimizer: Over the model's parameters.
        rate: The learning-rate schedule, or None.
        loss_scheduler: What moves the weights of the loss after every epoch, or None.
        device: Where batches go.
        seed: Of what is drawn within steps.
        clip_norm: Gradients are scaled to this norm where they exceed it.
        precision: What operations compute in; see `Precision`.
        accumulate: Into how many parts a batch is cut.
        ema_decay: Of the moving average of the weights; None keeps none.
        swa_start: The epoch from which on the mean of the weights at the ends of epochs is kept; None keeps none.
        memory_format: How images are laid out.
        compiled: Whether the model is compiled.
        on_nonfinite: What to do with a batch whose loss or gradient is not finite.
        world: The processes that train together; each has its piece of every batch.
        forward: What is called with a batch where that is not *model* itself: what wraps it for several processes.
        twin: A copy of a *model* in shards, sharded alike, for the average of its weights.
        keep_modes: Whether a model that somebody put into evaluation mode meanwhile is put back, module by module, as
            it is now; else its modes are left to its user.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        seed: int,
        rate: LearningRate | None = None,
        loss_scheduler: LossScheduler | None = None,
        clip_norm: float | None = None,
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
        accumulate: int = 1,
        ema_decay: float | None = None,
        swa_start: int | None = None,
        channels_last: bool = False,
        compiled: bool = False,
        on_nonfinite: Literal["stop", "skip", "rollback"] = "stop",
        world: World = ALONE,
        forward: nn.Module | None = None,
        twin: nn.Module | None = None,
        keep_modes: bool = True,
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.rate = rate
        self.loss_scheduler = loss_scheduler
        self.device = device
        self.position = Position()
        self.average = None if ema_decay is None else average(model, ema_decay, twin=twin)
        self.mean = None if swa_start is None else MeanOfEpochs(model, start=swa_start, seed=seed, twin=twin)
        self.torn = False
        """Whether something was begun and not ended, so that nothing here is worth saving."""
        self.world = world
        self._wrapped = model if forward is None else forward
        self._forward = torch.compile(self._wrapped, dynamic=False) if compiled else self._wrapped
        self._rehearsed = world.size == 1
        is_wrapped = self._wrapped is not model
        self._spreads_buffers = world.size > 1 and not is_wrapped and next(model.buffers(), None) is not None
        self._precision = Precision(precision, device)
        self._cut = Cut(accumulate, world.rank, world.size)
        self._channels_last = channels_last
        self._mixed = mix(STEP, seed) if world.is_first else mix(STEP, seed, world.rank)
        self._clip_norm = clip_norm
        self._on_nonfinite = on_nonfinite
        self._guards = on_nonfinite != "stop"
        self._means = RunningMeans(device)
        self._passed_over = 0
        self._in_a_row = 0
        self._refused = 0
        self._avoided: set[tuple[int, int]] = set()
        self._modes = modes_of(model) if keep_modes and model.training else None

    # ------------------------------------------------------------------ a step

    def train_step(self, batch: Sequence[Tensor], *, length: int | None = None) -> dict[str, Tensor]:
        """Train on *batch*, a pair of input and target, and return the loss and its components, still on the device.

        Where several processes train, it is this one's piece of a batch of *length* samples.

        Raises:
            ConfigError: If it is no pair.
            NonFiniteLossError: If the loss is not finite and that is to stop the run: at once on a CPU; elsewhere
                `check_loss` waits for the device and tells. If batches are to be passed over, which costs waiting for
                the device: if loss or gradient are not finite in so many in a row that it is not the batches.
            NonFiniteStepError: If they are not finite in one, and the run is to roll back.
        """
        inputs, targets = self._put(batch)
        length = len(inputs) if length is None else length
        if not self._rehearsed:
            self._rehearsed = True
            rehearse(self.model, self._predict, inputs)
        seed_generators(mix(self.position.step, after=self._mixed), self.device)
        if self._modes is not None and not self.model.training:
            restore_modes(self._modes)
        if (self.position.epoch, self.position.batch) in self._avoided:
            return self._pass_over()
        self.torn = True
        if self._spreads_buffers:  # as DistributedDataParallel does, so that a save, which does too, changes no bit
            self.world.share_buffers([self.model])
        kept = [buffer.clone() for buffer in self.model.buffers()] if self._guards else []
        self._forget_gradients()
        values = self._differentiate(inputs, targets, length)
        if not self._update(values):
            return self._undo(kept)
        if self.average is not None:
            self.average.update_parameters(self.model)
        self._in_a_row = 0
        self._means.add(values, length)
        if self._means.at_once:
            self.check_loss()
        self._advance()
        return values

    def _forget_gradients(self) -> None:
        forget = self.optimizer.zero_grad
        if getattr(forget, "__func__", None) is not torch.optim.Optimizer.zero_grad:  # somebody's own
            forget(set_to_none=True)
            return
        for group in self.optimizer.param_groups:  # what torch's own does, without telling its profiler: four µs
            for weight in group["params"]:
                weight.grad = None

    def _put(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        inputs, targets = split(batch, self.device)
        return (lay_out(inputs), targets) if self._channels_last else (inputs, targets)

    def _differentiate(self, inputs: Tensor, targets: Tensor, length: int) -> dict[str, Tensor]:
        """Add up the gradients of all parts of a batch of *length*, and return the values of the whole."""
        if self._cut.parts == self._cut.ranks == 1:
            return self._differentiate_part(inputs, targets, share=1.0)
        sums: dict[str, Tensor] = {}
        sizes, own = self._cut.sizes(length), [len(part) for part in self._cut.own(length)]
        loaded = [max(count, 1) for count in own]
        pieces = zip(sizes, own, torch.split(inputs, loaded), torch.split(targets, loaded), strict=True)
        for number, (size, count, some, truths) in enumerate(pieces, start=1):
            with gathering(self._wrapped, now=number == len(sizes)):
                values = self._differentiate_part(some, truths, share=size / length, count=count)
            for name, value in values.items():
                sums[name] = sums[name] + value * (size / length) if name in sums else value * (size / length)
        return sums

    def _differentiate_part(
        self, inputs: Tensor, targets: Tensor, *, share: float, count: int | None = None
    ) -> dict[str, Tensor]:
        prediction = self._predict(inputs)
        if count == 0:  # there was no sample for this process, and it took part with another's
            prediction, targets = take_none(prediction), targets[:0]
        values = self._values_of(prediction, targets)
        self._precision.backward(values["loss"] if share == 1.0 else values["loss"] * share)
        return {name: value.detach() for name, value in values.items()}

    def _predict(self, inputs: Tensor) -> Any:
        with self._precision.cast():
            return self._forward(inputs)

    def _update(self, values: dict[str, Tensor]) -> bool:
        """Move the weights, unless something is not finite and that is looked at; return whether it was finite."""
        scaled = self._precision.scaler is not None
        if self._clip_norm is not None or (self._guards and not scaled):
            self._precision.unscale(self.optimizer)
            weights = [one for group in self.optimizer.param_groups for one in group["params"] if one.grad is not None]
            norm = get_total_norm([one.grad for one in weights])
            values["grad_norm"] = norm.full_tensor() if isinstance(norm, DTensor) else norm
            if self._clip_norm is not None:
                clip_grads_with_norm_(weights, self._clip_norm, norm)
        if self._guards:
            # a scale that was too large makes gradients infinite too, and the scaler deals with that by itself
            seen = values["loss"] if scaled else values["loss"] + values["grad_norm"]
            if not math.isfinite(float(seen)):
                return False
        if self._precision.step(self.optimizer):
            self._refused = 0
            if self.rate is not None:
                self.rate.step_ended()
            return True
        self._refused += 1
        if self._refused >= REFUSALS:
            msg = f"the gradient was not finite at {REFUSALS} steps in a row, whatever it was scaled by. {ADVICE}"
            raise NonFiniteLossError(msg)
        return True

    def _undo(self, kept: Sequence[Tensor]) -> dict[str, Tensor]:
        """Take back what a forward pass has written, and pass the batch over."""
        for buffer, before in zip(self.model.buffers(), kept, strict=True):
            buffer.copy_(before)
        self._forget_gradients()
        self.torn = False
        what = f"the loss or its gradient is not finite at step {self.position.step + 1}"
        if self._on_nonfinite == "rollback":
            raise NonFiniteStepError(what)
        self._in_a_row += 1
        if self._in_a_row >= PATIENCE:
            msg = f"{what}, as in the {PATIENCE - 1} batches before. {ADVICE}"
            raise NonFiniteLossError(msg)
        return self._pass_over()

    def _pass_over(self) -> dict[str, Tensor]:
        self._passed_over += 1
        self._advance()
        return {}

    def _advance(self) -> None:
        at = self.position
        self.position = Position(epoch=at.epoch, batch=at.batch + 1, step=at.step + 1)
        self.torn = False

    # ------------------------------------------------------------------ an epoch

    def means(self) -> dict[str, float]:
        """Return the mean of the loss and of each component over the samples of this epoch so far.

        Raises:
            NonFiniteLossError: If the loss was NaN or infinite at some step; the epoch is not to be kept.
        """
        self.check_finite()
        if not self._means.samples:
            msg = f"every batch of epoch {self.position.epoch + 1} was passed over; {ADVICE}"
            raise NonFiniteLossError(msg)
        return {f"train_{name}": mean for name, mean in self._means.means().items()}

    def average_epoch(self, batches: Iterable[Sequence[Tensor]]) -> None:
        """Add the weights to the mean of those at the ends of epochs, where one is kept, before anything is measured.

        *batches*, to train on, renew statistics of batch normalisation. Called once more it changes nothing.
        """
        if self.mean is not None:
            inputs = (self._put(batch)[0] for batch in batches)
            self.mean.add(self.model, self.position.epoch + 1, inputs, self._pass)

    def _pass(self, model: nn.Module, inputs: Tensor) -> None:
        with self._precision.cast():
            model(inputs)

    def end_epoch(self, metrics: Mapping[str, float]) -> None:
        """Close the epoch, which came to *metrics*: schedules of epochs go on by one.

        Raises:
            ConfigError, LossConfigError: If one of them goes by what is not among *metrics*.
        """
        self.torn = True
        if self.rate is not None:
            self.rate.epoch_ended(metrics)
        if self.loss_scheduler is not None:
            self.loss_scheduler.step(self.position.epoch, metrics)
        self._means.clear()
        self.position = Position(epoch=self.position.epoch + 1, step=self.position.step)
        self.torn = False

    def check_loss(self) -> None:
        """Make sure that every loss of this epoch was finite, as `check_finite`, but for the weights."""
        self._means.require_finite("loss", epoch=self.position.epoch + 1, step=self.position.step + self.torn)

    def check_finite(self) -> None:
        """Make sure that this is a state to go on from: asked before every save, because it waits for the device.

        Raises:
            NonFiniteLossError: If a loss of this epoch was NaN or infinite, or a weight is.
        """
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        held = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in weights]
        self.check_loss()
        if self.world.highest(not torch.stack([one.isfinite().all() for one in held]).all()):
            what = f"the loss is finite and weights are not, after step {self.position.step}"
            msg = f"{what}; the last checkpoint is from before. {ADVICE}"
            raise NonFiniteLossError(msg)

    # ------------------------------------------------------------------ what it is made of

    @property
    def loss(self) -> Loss:
        """What takes prediction and target."""
        return self._loss

    @loss.setter
    def loss(self, loss: Loss) -> None:
        self._loss = loss
        self._values_of = bind_loss(loss)

    @property
    def measured(self) -> nn.Module:
        """The model to measure and to export: the average of the weights where there is one."""
        if self.mean is not None and self.mean.begun:
            return self.mean.model.module
        return self.model if self.average is None else self.average.module

    @property
    def modules(self) -> list[nn.Module]:
        """The model, and the average of its weights where one is kept."""
        return [self.model, *(one for name, one in self.parts.items() if name == "average")]

    @property
    def learning_rate(self) -> float:
        """The rate of the first parameter group at the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def parts(self) -> dict[str, Any]:
        """What has a state of its own beside model, optimizer and learning rate, by the name it is saved under."""
        optional = {
            "average": self.average if self.mean is None else self.mean.model,
            "loss_scheduler": self.loss_scheduler,
            "scaler": self._precision.scaler,
        }
        return {"engine": self, "loss": self.loss, **{name: one for name, one in optional.items() if one is not None}}

    @property
    def avoided(self) -> frozenset[tuple[int, int]]:
        """The batches that are come by without a step, as epoch and batch, both counted from 0."""
        return frozenset(self._avoided)

    def avoid(self, batches: Iterable[tuple[int, int]]) -> None:
        """Come by *batches* without a step, when they come again."""
        self._avoided.update(batches)

    def state_dict(self) -> dict[str, Any]:
        """Return the position and the running sums: what neither model nor optimizer know."""
        return {
            "position": attrs.asdict(self.position),
            "means": self._means.state_dict(),
            "passed_over": self._passed_over,
            "in_a_row": self._in_a_row,
            "refused": self._refused,
            "avoided": sorted(map(list, self._avoided)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from *state*."""
        self.position = Position(**state["position"])
        self._means.load_state_dict(state["means"])
        self._passed_over = state["passed_over"]
        self._in_a_row = state["in_a_row"]
        self._refused = state["refused"]
        self._avoided = {(epoch, batch) for epoch, batch in state["avoided"]}
        self.torn = False
