"""What an observer hears. The loop binds the methods once and calls them plainly."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

from mlc_trainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlc_trainer.engine import Engine, Position
    from mlc_trainer.resume_report import ResumeReport

__all__ = ["Monitor", "Observer", "RunRecord", "tell_end", "without_monitors"]

log = logging.getLogger("mlc_trainer")


@attrs.frozen(kw_only=True)
class RunRecord:
    """What is known about a run when it starts."""

    id: str
    directory: Path
    model_name: str
    num_epochs: int = 0
    """How many there will be; 0 where the loop is its user's own, and nobody knows."""
    batches_per_epoch: int = 0
    """The same."""
    resumed_from: str | None = None
    """The name of the checkpoint that it goes on from."""
    differences: Sequence[str] = ()
    """What is not as it was when that checkpoint was saved."""
    resume: ResumeReport | None = None
    """All of that: what was restored, what was not and why, before and now by key."""
    config: Mapping[str, Any] = attrs.field(factory=dict)
    """What the run is made of, as plain data; nothing where the loop is its user's own."""


class Observer(Protocol):
    """Watches a run; nothing it does changes what is trained."""

    def run_started(self, run: RunRecord, position: Position) -> None:
        """Hear that training begins at *position*."""

    def step_ended(self, position: Position) -> None:
        """Hear that a step was taken. Called after every step: be quick."""

    def step_logged(self, position: Position, values: Mapping[str, float]) -> None:
        """Hear the loss, its components and the learning rate, every `log_every` steps."""

    def epoch_ended(self, position: Position, metrics: Mapping[str, float]) -> None:
        """Hear what an epoch came to."""

    def rolled_back(self, position: Position) -> None:
        """Hear that training went back to *position*: what was told of later ones will be told anew."""

    def checkpoint_saved(self, position: Position, location: str) -> None:
        """Hear where a checkpoint was saved."""

    def run_ended(self, position: Position, error: BaseException | None) -> None:
        """Hear that training ended, and by what."""


@runtime_checkable
class Monitor(Observer, Protocol):
    """An observer with numbers of its own: everybody hears of them at `step_logged`, as of the loss.

    Only the loop that is ours asks for them.
    """

    def batch_awaited(self, position: Position) -> None:
        """Hear that the next batch is asked for, which may never come. Called before every step: be quick."""

    def step_began(self, position: Position, samples: int) -> None:
        """Hear that a batch of so many *samples* is there to be trained on. Called before every step: be quick."""

    def numbers(self, engine: Engine, values: Mapping[str, float]) -> Mapping[str, float]:
        """Return what to log beside *values*, every `log_every` steps, right after the step.

        The weights have their gradients still, as the optimizer saw them. What *values* hold is not replaced.
        """


def without_monitors(observers: Sequence[Observer]) -> Sequence[Observer]:
    """Return *observers*, none of whom has numbers that nobody would ask for.

    Raises:
        ConfigError: If one has.
    """
    for one in observers:
        if isinstance(one, Monitor):
            msg = f"{type(one).__qualname__} is a monitor, which only ExperimentManager asks; leave it out"
            raise ConfigError(msg)
    return observers


def tell_end(observers: Sequence[Observer], position: Position, error: BaseException | None) -> None:
    """Tell each of *observers* that training ended; one that fails then keeps the others from nothing."""
    for one in observers:
        try:
            one.run_ended(position, error)
        except Exception as failure:  # it is over, and the others want to know
            kind = type(one).__qualname__
            log.warning("observer %s failed when told that the run ended: %s", kind, failure, exc_info=failure)
