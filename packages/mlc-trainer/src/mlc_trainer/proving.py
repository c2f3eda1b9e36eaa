"""Does this experiment resume to the bit? Train it twice, once killed, and name the first step at which they part."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import attrs
from typing_extensions import Self

from mlc_trainer.config_files import as_data
from mlc_trainer.errors import ProofError, RunError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlc_trainer.config import ExperimentConfig

__all__ = ["Proof", "prove"]

STREAMS = {
    "batch": "a dataset draws from a generator of its own, or depends on the time, on a file or on what came before",
    "loss": "the model or the loss draws from a generator of its own, or keeps something that its state_dict() lacks",
    "weights": "an operation that computes gradients does not repeat itself; see training.deterministic",
    "optimizer": "the optimizer keeps something that its state_dict() lacks",
    "parts": "a schedule, a scaler or an average keeps something that its state_dict() lacks",
}
"""What is compared after every step, in the order in which one leads to another, and what it means if it parts."""


FEWEST = 3
"""Steps of a proof: one that is saved, one to be killed after, one to go on with."""


@attrs.frozen
class Proof:
    """Two runs that came to the same."""

    steps: int
    """How many were compared."""
    killed_at: int
    """After which the second run was killed, with SIGKILL."""
    resumed_from: int
    """The step of the checkpoint that it went on from."""


def prove(config: ExperimentConfig, place: Path, *, steps: int | None = None, kill_at: int | None = None) -> Proof:
    """Train *config* in *place* undisturbed, and killed and resumed, each in processes of its own, and compare.

    Args:
        config: What is trained; its checkpoints are taken more often here.
        place: An empty or new directory; both runs and their traces stay there.
        steps: How many to train. Default: two and a half epochs, or all.
        kill_at: The step to be killed after, from 2 on, as there is nothing to go on from before. Default: three
            fifths of them.

    Raises:
        ProofError: If they part; names the first step, and what it was that differed.
        RunError: If one of the runs fails by itself; says what it said.
    """
    if place.exists() and any(place.iterdir()):
        msg = f"{place} holds something; name a new directory for the proof"
        raise RunError(msg)
    place.mkdir(parents=True, exist_ok=True)
    with _Runner() as runner:
        whole = runner.run(config, place / "undisturbed", limit=steps)
        limit = max(whole)
        if limit < FEWEST:
            msg = (
                f"{limit} steps are too few to prove anything; train at least {FEWEST}: more epochs, or smaller batches"
            )
            raise RunError(msg)
        kill_at = min(limit - 1, max(2, limit * 3 // 5)) if kill_at is None else kill_at
        if not 1 < kill_at < limit:
            msg = f"kill_at={kill_at} must be a step from 2 to {limit - 1}, as {limit} are trained"
            raise RunError(msg)
        often = {"every": max(1, kill_at // 3), "unit": "steps"}
        checkpoints = attrs.evolve(config.checkpoints, save_strategy="interval", strategy_options=often)
        disturbed = attrs.evolve(config, checkpoints=checkpoints)
        before = runner.run(disturbed, place / "killed", limit=limit, kill_at=kill_at)
        _compare(whole, before, killed_at=None)
        after = runner.run(disturbed, place / "killed", limit=limit)
        _compare(whole, after, killed_at=kill_at)
    return Proof(steps=limit, killed_at=kill_at, resumed_from=min(after, default=limit + 1) - 1)


class _Runner:
    """A process that imports everything once, and forks for each run."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "mlc_trainer.proving_child"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(
        self, config: ExperimentConfig, run_dir: Path, *, limit: int | None, kill_at: int | None = None
    ) -> dict[int, dict[str, Any]]:
        """Train until step *limit*, or until it is killed, and return what was seen by step.

        Raises:
            RunError: If it ends otherwise.
        """
        trace = run_dir.with_name(f"{run_dir.name}-trace.jsonl")
        trace.unlink(missing_ok=True)
        files = {"run_dir": str(run_dir), "trace": str(trace), "said": str(trace.with_suffix(".txt"))}
        task = {"config": as_data(config), **files, "limit": limit, "kill_at": kill_at}
        pipes = self._process.stdin, self._process.stdout
        assert pipes[0] is not None
        assert pipes[1] is not None
        print(json.dumps(task), file=pipes[0], flush=True)
        status = pipes[1].readline().strip()
        if status != str(0 if kill_at is None else -signal.SIGKILL):
            said = trace.with_suffix(".txt").read_text(encoding="utf-8").strip() if status else "it could not start"
            msg = f"the run in {run_dir} ended with status {status or 'unknown'}: {said[-2000:]}"
            raise RunError(msg)
        return {line["step"]: line for line in map(json.loads, trace.read_text(encoding="utf-8").splitlines())}


def _compare(
    whole: Mapping[int, Mapping[str, Any]], found: Mapping[int, Mapping[str, Any]], *, killed_at: int | None
) -> None:
    for step in sorted(found):
        for stream, meaning in STREAMS.items():
            if whole[step][stream] != found[step][stream]:
                when = "before it was killed" if killed_at is None else f"after it was killed at step {killed_at}"
                repeats = " Training does not even repeat itself: " if killed_at is None else " Most likely "
                msg = f"step {step} differs {when}, first in: {stream}.{repeats}{meaning}"
                raise ProofError(msg, step=step, stream=stream)
