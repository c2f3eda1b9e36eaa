"""What holds for every callback and every tracker."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from mlc_losses import LossManager
from mlc_trainer.engine import Engine, Position
from mlc_trainer.observers.protocol import Monitor, RunRecord

if TYPE_CHECKING:
    from pathlib import Path

    from mlc_trainer.observers.protocol import Observer

__all__ = ["ObserverContract", "tell_a_run"]

EPOCHS, BATCHES = 2, 3


def tell_a_run(observer: Observer, directory: Path, *, first: int = 0, error: BaseException | None = None) -> None:
    """Tell *observer* of a run of two epochs of three steps, from step *first* on, that ends by *error*."""
    record = RunRecord(
        id="0123456789abcdef",
        directory=directory,
        model_name="net",
        num_epochs=EPOCHS,
        batches_per_epoch=BATCHES,
        resumed_from=f"epoch_1_step_{first}" if first else None,
        differences=("threads was 2, is 1",) if first else (),
        config={"training": {"seed": 1}},
    )
    engine = _engine()
    observer.run_started(record, _position(first))
    for step in range(first + 1, EPOCHS * BATCHES + 1):
        at, values = _position(step), {"loss": 1 / step, "dice_loss": float("nan"), "lr": 0.1}
        if isinstance(observer, Monitor):
            observer.batch_awaited(_position(step - 1))
            observer.step_began(_position(step - 1), 4)
        observer.step_ended(at)
        if isinstance(observer, Monitor):
            engine.position = at
            numbers = observer.numbers(engine, dict(values))
            assert all(isinstance(one, float) for one in numbers.values()), f"these are to be floats: {numbers}"
            values = {**numbers, **values}
        observer.step_logged(at, values)
        if step == first + 2:
            observer.rolled_back(at)
        if not step % BATCHES:
            observer.epoch_ended(at, {"train_loss": 1 / step, "val_dice": 0.5, "val_loss": float("inf")})
            observer.checkpoint_saved(at, str(directory / f"epoch_{at.epoch}"))
    observer.run_ended(_position(EPOCHS * BATCHES), error)


def _engine() -> Engine:
    """Return what a monitor looks into: two groups of weights with gradients, after a step."""
    with torch.random.fork_rng(devices=[]):
        parts = [torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)]
    model = torch.nn.Sequential(*parts)
    optimizer = torch.optim.SGD([{"params": [*part.parameters()], "lr": 0.1} for part in parts])
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    loss = LossManager.create_loss_function({"type": "bce"})
    return Engine(model=model, loss=loss, optimizer=optimizer, device=torch.device("cpu"), seed=0)


def _position(step: int) -> Position:
    return Position(epoch=step // BATCHES, batch=step % BATCHES, step=step)


class ObserverContract:
    """What holds for every observer. Subclass it and give the fixture `observer`, one that was told nothing yet."""

    @pytest.fixture
    def observer(self) -> Observer:
        """Return the observer; override this."""
        msg = "give the fixture observer"
        raise NotImplementedError(msg)

    def test_hears_a_whole_run(self, observer: Observer, tmp_path: Path) -> None:
        """From the beginning to the end, with numbers that are none."""
        tell_a_run(observer, tmp_path)

    def test_hears_a_run_that_fails(self, observer: Observer, tmp_path: Path) -> None:
        """Its end is an error."""
        tell_a_run(observer, tmp_path, error=RuntimeError("out of memory"))

    def test_hears_a_run_that_goes_on(self, observer: Observer, tmp_path: Path) -> None:
        """In the middle of an epoch, in a directory where it was before."""
        tell_a_run(observer, tmp_path, error=KeyboardInterrupt())
        tell_a_run(observer, tmp_path, first=4)

    def test_hears_a_run_that_has_nothing_left_to_do(self, observer: Observer, tmp_path: Path) -> None:
        """Its beginning is its end."""
        tell_a_run(observer, tmp_path, first=EPOCHS * BATCHES)

    def test_draws_nothing_at_random(self, observer: Observer, tmp_path: Path) -> None:
        """Our loop would not mind; the loops of others do."""
        before = _streams()
        tell_a_run(observer, tmp_path)
        assert before == _streams()


def _streams() -> str:
    numpy_state = np.random.get_state()  # noqa: NPY002 - the global one is the one that others draw from
    return json.dumps([random.getstate(), [str(part) for part in numpy_state], torch.get_rng_state().tolist()])
