"""What moves the weights of a combined loss while it is trained."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from mlc_losses.combined import CombinedLoss
from mlc_losses.deep_supervision import DeepSupervisionLoss
from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_flag
from mlc_losses.records import LossMoment
from mlc_losses.schedules import state as states
from mlc_losses.schedules.options import require_count, require_text
from mlc_losses.schedules.told import Heard, count_processes, hear_processes, read_losses, read_metrics, read_time
from mlc_losses.schedules.weights import require_numbers, require_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from mlc_losses.protocols import Loss, LossSchedule

__all__ = ["LossScheduler"]


class LossScheduler:
    """Writes the weights that *schedule* decides on into the buffers of *loss*.

    The weights that the loss has now are the base weights; they hold until the first `step`. Call `step` at whatever
    pace the schedule is meant for, most often after each epoch.

    A schedule that goes by the values of the components takes them from the metrics `<prefix><name>_loss`, which
    `get_loss_components` returns (with a prefix of ""). Where metrics have none of them, it takes the means of what the
    loss itself saw since the last step: in training mode, where there was a gradient, batches with a value that is not
    finite left out. The loss keeps those on its device, so that no batch waits.

    Args:
        loss: A combined loss, or deep supervision of one; compiled or wrapped, too.
        schedule: What decides, from `loss_schedules().make`. A copy of it is kept and starts afresh, so that several
            schedulers may be made with one.
        prefix: What metrics have before the names of components.
        distributed: Whether losses and metrics are averaged over all processes first. All must then call `step`
            together. Where there are several processes it must be said, for they must not drift apart.

    Raises:
        LossConfigError: If *loss* has no components, or the schedule's options do not go with its weights.
    """

    def __init__(
        self, loss: Loss, schedule: LossSchedule, *, prefix: str = "", distributed: bool | None = None
    ) -> None:
        self.loss = _find_combined(loss)
        self.schedule = copy.deepcopy(schedule)  # what it remembers is of this loss
        self.prefix = require_text("prefix", prefix)
        self.distributed = None if distributed is None else require_flag("distributed", distributed)
        if self.loss.learnt and not schedule.learns:
            msg = (
                f"the weights of this loss are learnt, so schedule {schedule.name!r} cannot write them; make a new loss"
            )
            raise LossConfigError(msg)
        self.skipped = 0
        """How many steps changed nothing because what they went by was not finite."""
        self._step = self._time = 0
        self._base = dict(self.loss.weights)
        self._trained = not schedule.learns
        self.schedule.start(dict(self._base))
        self._recorder = self.loss.record() if schedule.needs_losses else None
        if self._recorder is not None:
            self._recorder.clear()  # an earlier scheduler of the same loss may have left something
        if schedule.learns:
            self.loss.learn_weights()

    @property
    def weights(self) -> Mapping[str, float]:
        """The weights by component, as the loss has them now, whoever wrote them."""
        return self.loss.weights

    def step(self, epoch: int | None = None, metrics: Mapping[str, object] | None = None) -> dict[str, float]:
        """Ask the schedule, write the weights into the loss and return them.

        *epoch*, counted from 0, is the one that is over. Schedules that go by time follow it: a step after every fifth
        epoch, and a run that goes on without a state, have the weights of their epoch. Without it each call is one
        more. Schedules that go by what was measured count calls. Steps at which what the schedule goes by is not finite
        change nothing; `skipped` counts them.

        Raises:
            LossInputError: If *metrics* are no numbers by name, or nobody knows the values of the components.
            LossConfigError: If *epoch* was over at the last step, the schedule's metric is missing, it returns what are
                no weights, several processes were not said to be averaged or not, or weights are to be learnt and no
                optimizer was handed over.
        """
        self._require_ready()
        heard = hear_processes(partial(self._hear, epoch, metrics)) if self.distributed else self._hear(epoch, metrics)
        losses, decided = heard.losses, None
        if losses is None or all(math.isfinite(one) for one in losses.values()):
            told = LossMoment(
                step=self._step + 1,
                base=dict(self._base),
                weights=require_weights("the loss", self.weights, self._base),
                epoch=epoch,
                time=heard.time,
                losses=losses,
                metrics=heard.metrics,
            )
            decided = self.schedule.decide(told)
        if decided is not None:
            what = f"what schedule {self.schedule.name!r} decided"
            self.loss.set_weights(require_weights(what, decided, self._base))
        self.skipped += decided is None
        self._step, self._time = self._step + 1, heard.time
        if self._recorder is not None:
            self._recorder.clear()
        return dict(self.weights)

    def train_with(self, optimizer: torch.optim.Optimizer) -> None:
        """Let *optimizer* move weights that are learnt, without weight decay, unless it does already.

        Call it before learning rate schedulers are made: they look at the optimizer's groups once.

        Raises:
            LossConfigError: If the schedule learns nothing.
        """
        if not self.schedule.learns:
            msg = f"schedule {self.schedule.name!r} decides on the weights by itself and has nothing for an optimizer"
            raise LossConfigError(msg)
        held = {id(one) for group in optimizer.param_groups for one in group["params"]}
        missing = [one for one in self.loss.learnt.values() if id(one) not in held]
        if missing:
            optimizer.add_param_group({"params": missing, "weight_decay": 0.0})
        self._trained = True

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs, as JSON has it; between steps too."""
        own = {**self._identify(), "t": self._step, "time": self._time}
        own |= {"w": dict(self.weights), "skipped": self.skipped}
        own["recorded"] = None if self._recorder is None else self._recorder.state()
        own["s"] = {name: float(one.detach()) for name, one in self.loss.learnt.items()}
        return states.join(own, self.schedule.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, and write its weights into the loss.

        Raises:
            LossConfigError: If it is of other components or options, lacks a key, or has what `state_dict` never
                returns; names the key or both sides, and changes nothing.
        """
        rest = states.check_state(state, self._identify())
        step, time, skipped = (require_count(f"the state's {key}", state[key]) for key in ("t", "time", "skipped"))
        if not skipped <= step <= time:
            msg = f"the state's skipped is {skipped} of {step} steps (t) in {time} epochs (time); {states.LOAD}"
            raise LossConfigError(msg)
        base, weights = (require_weights(f"the state's {key}", state[key], self._base) for key in ("w0", "w"))
        learnt = require_numbers("the state's s", state["s"], self.loss.learnt)
        states.check_recorded(state["recorded"], self._base, wanted=self._recorder is not None)
        schedule = self._restore(base, rest)
        # nothing below can fail
        self.schedule, self._base, self._step, self._time, self.skipped = schedule, base, step, time, skipped
        for name, one in self.loss.learnt.items():
            one.detach().fill_(learnt[name])
        if self._recorder is not None:
            self._recorder.load_state(state["recorded"])
        self.loss.set_weights(weights)

    def explain(self) -> str:
        """Return the formula in use with its options, and the weights as they are, for people."""
        now = " + ".join(f"{one:g}·{name}" for name, one in self.weights.items())
        return f"{self.schedule.explain()}\nafter {self._step} steps: {now}"

    def _identify(self) -> dict[str, Any]:
        config = dict(self.schedule.options())
        return {
            "format": states.FORMAT,
            "type": self.schedule.name,
            "w0": dict(self._base),
            "config": config,
            "config_digest": states.digest({"type": self.schedule.name, **config}),
        }

    def _restore(self, base: Mapping[str, float], state: Mapping[str, Any]) -> LossSchedule:
        """Return a copy of the schedule that has taken over *state*; the schedule itself stays as it is."""
        schedule = copy.deepcopy(self.schedule)
        try:
            schedule.start(dict(base))
            schedule.load_state_dict(state)
        except LossConfigError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            msg = (
                f"schedule {schedule.name!r} cannot take over {dict(state)!r} ({type(error).__name__}: {error}); load "
                f"what state_dict returned"
            )
            raise LossConfigError(msg) from error
        return schedule

    def _require_ready(self) -> None:
        if count_processes() > 1 and self.distributed is None:
            msg = (
                f"there are {count_processes()} processes, whose weights must not drift apart; say distributed=True to "
                f"average what they go by, or distributed=False if each is told the same"
            )
            raise LossConfigError(msg)
        if not self._trained:
            msg = (
                f"the weights are learnt, but nobody said by what: call train_with(optimizer) once, which adds "
                f"{[f'{name}_log_variance' for name in self._base]} to its parameters"
            )
            raise LossConfigError(msg)

    def _hear(self, epoch: int | None, metrics: Mapping[str, object] | None) -> Heard:
        """Return what this process goes by."""
        time, numbers = read_time(epoch, self._time), read_metrics(metrics)
        losses, count = None, 0.0
        if self._recorder is not None:
            losses, count = read_losses(tuple(self._base), numbers, self._recorder, prefix=self.prefix)
        return Heard(time=time, metrics=numbers, losses=losses, count=count)


def _find_combined(loss: object) -> CombinedLoss:
    """Return the combined loss within *loss*."""
    found = loss
    while isinstance(found, nn.Module) and not isinstance(found, CombinedLoss):
        inner = found.loss if isinstance(found, DeepSupervisionLoss) else getattr(found, "_orig_mod", None)
        found = getattr(found, "module", None) if inner is None else inner
    if not isinstance(found, CombinedLoss):
        msg = (
            f"{type(loss).__name__} has no components to weigh; a scheduler is for a combined loss, such as "
            f"{{'type': 'combined', 'dice_weight': 0.7, 'bce_weight': 0.3}}, alone or in deep supervision"
        )
        raise LossConfigError(msg)
    return found
