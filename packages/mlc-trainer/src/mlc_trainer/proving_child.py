"""Runs that write down what each step came to, each in a process that can be killed: for each line of JSON, a fork."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mlc_trainer.config_files import from_data
from mlc_trainer.experiment import ExperimentManager

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_trainer.engine import Engine

__all__ = ["digest", "main"]


class _EnoughError(Exception):
    """The last step that is wanted was taken."""


def main() -> None:
    """Run each task that standard input describes, and print the exit status of its process."""
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(_run(json.loads(line)))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


def _run(task: Mapping[str, Any]) -> int:
    with (
        Path(task["said"]).open("w", encoding="utf-8") as said,
        Path(task["trace"]).open("w", encoding="utf-8") as file,
    ):
        try:
            _train(task, file)
        except _EnoughError:
            pass
        except BaseException:
            traceback.print_exc(file=said)
            return 1
    return 0


def _train(task: Mapping[str, Any], file: Any) -> None:
    run_dir = Path(task["run_dir"])
    goes_on = (run_dir / "config.json").exists()
    config = from_data(task["config"])
    experiment = ExperimentManager.from_run(run_dir) if goes_on else ExperimentManager(config, run_dir)
    batches = len(experiment.setup().training_batches)
    limit = task["limit"] or batches * 2 + max(1, batches // 2)
    _trace(experiment.engine, file, limit=limit, kill_at=task["kill_at"])
    experiment.resume_training() if goes_on else experiment.run()


def _trace(engine: Engine, file: Any, *, limit: int, kill_at: int | None) -> None:
    """Let each step of *engine* be written to *file*, and the process die after step *kill_at*."""
    take = engine.train_step

    def train_step(batch: Sequence[torch.Tensor], **options: Any) -> Mapping[str, torch.Tensor]:
        before = digest(batch)  # a model may write to it
        values = take(batch, **options)
        step = engine.position.step
        parts = {name: one.state_dict() for name, one in engine.parts.items()}
        rate = None if engine.rate is None else engine.rate.scheduler.state_dict()
        line = {
            "step": step,
            "batch": before,
            "loss": digest(values),
            "weights": digest(engine.model.state_dict()),
            "optimizer": digest(engine.optimizer.state_dict()),
            "parts": digest([parts, rate]),
        }
        file.write(json.dumps(line) + "\n")
        file.flush()
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == limit:
            raise _EnoughError
        return values

    engine.train_step = train_step  # type: ignore[assignment,method-assign]


def digest(value: Any) -> str:
    """Return a digest over everything in *value*: tensors by their bytes, the rest as it is written."""
    found = hashlib.blake2b(digest_size=16)
    _feed(found, value)
    return found.hexdigest()


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        found.update(f"{value.dtype}{tuple(value.shape)}".encode())
        found.update(np.ascontiguousarray(value.detach().cpu().reshape(-1).view(torch.uint8).numpy()))
    elif hasattr(value, "items"):
        for name, one in value.items():
            found.update(repr(name).encode())
            _feed(found, one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            _feed(found, one)
    else:
        found.update(repr(value).encode())


if __name__ == "__main__":
    main()
