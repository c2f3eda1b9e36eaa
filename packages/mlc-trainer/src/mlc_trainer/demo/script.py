"""The acts of the demo, in order."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from mlc_trainer.config_files import read_config
from mlc_trainer.demo.brain import CLASSES, BrainTissue
from mlc_trainer.demo.proof import compare_runs
from mlc_trainer.errors import RunError
from mlc_trainer.observers import read_journal
from mlc_trainer.pictures import draw_curves, draw_predictions

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Script"]

MODEL, VERSION = "brain-tissue", "1.0.0"
KILL_AFTER = 7  # steps into the epoch in the middle of the run
PATIENCE = 600.0  # seconds until a silent child counts as lost
SLICES = (2, 7, 12)  # of the validation slab, for the picture


class Script:
    """Plays in *directory*, from the configuration file *config*."""

    def __init__(self, directory: Path, config: Path, *, prove: bool) -> None:
        self._directory = directory
        self._config = config
        self._prove = prove
        self._run = directory / "run"
        self._twin = directory / "undisturbed"
        self._registry = directory / "registry"
        # One core for each process: the twin trains beside the run, and threads that wait for each other spin.
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

    def play(self) -> float:
        """Play everything and return the mean Dice of the model that the registry gave."""
        began = time.monotonic()
        twin = self._start_twin() if self._prove else None
        try:
            self._train_and_kill()
            self._resume()
            if twin is not None:
                self._compare(twin)
        finally:
            if twin is not None and twin.poll() is None:
                twin.kill()
        best = self._best_checkpoint()
        location = self._register(best)
        metrics = self._evaluate(location)
        self._draw(location, metrics)
        self._tell_where(time.monotonic() - began)
        return float(metrics["val_dice"])

    # ------------------------------------------------------------------ acts

    def _start_twin(self) -> subprocess.Popen[bytes]:
        _title("An undisturbed twin trains in the background, to compare with at the end")
        command = _mlc("train", self._config, "--run-dir", self._twin)
        log = self._directory / "undisturbed.log"
        click.echo(f"$ {_spell(command)} > {log} &")
        with log.open("wb") as file:
            return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=self._environment)

    def _train_and_kill(self) -> None:
        _title("Train, and be killed in the middle of an epoch")
        command = _mlc("train", self._config, "--run-dir", self._run)
        click.echo(f"$ {_spell(command)}")
        epochs, batches = self._length()
        child = subprocess.Popen(command, env=self._environment)
        try:
            self._wait_for_step(child, epochs // 2 * batches + KILL_AFTER)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        last = self._position()
        where = f"step {last['step']} of {epochs * batches}, in the middle of epoch {last['epoch']}"
        click.echo(f"\nkilled with SIGKILL after {where}")

    def _length(self) -> tuple[int, int]:
        """Return the epochs of the run and the batches of an epoch."""
        config = read_config(self._config)
        return config.training.num_epochs, -(-len(BrainTissue().training()) // config.data.batch_size)

    def _wait_for_step(self, child: subprocess.Popen[bytes], step: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._position()["step"] < step:
            if child.poll() is not None:
                msg = f"training ended by itself with exit status {child.returncode}; see above"
                raise RunError(msg)
            if time.monotonic() > deadline:
                msg = f"training did not reach step {step} within {PATIENCE:.0f} s"
                raise RunError(msg)
            time.sleep(0.01)

    def _position(self) -> dict[str, Any]:
        steps = [line for line in read_journal(self._run / "metrics.jsonl") if line["event"] == "step"]
        return steps[-1] if steps else {"step": 0, "epoch": 0}

    def _resume(self) -> None:
        self._type("What is on disk now", "checkpoints", "ls", self._run)
        self._type("Go on as if nothing had happened", "resume", self._run)
        self._type("Read every byte of every checkpoint again", "checkpoints", "verify", self._run)

    def _compare(self, twin: subprocess.Popen[bytes]) -> None:
        _title("Is it the same as if nothing had been killed?")
        if twin.wait(PATIENCE) != 0:
            msg = f"the undisturbed twin failed; see {self._directory / 'undisturbed.log'}"
            raise RunError(msg)
        for line in compare_runs(self._run, self._twin, MODEL):
            click.echo(f"  {line}")
        click.echo("equal to the bit")

    def _best_checkpoint(self) -> Path:
        return self._run / "checkpoints" / MODEL / "best"

    def _register(self, best: Path) -> str:
        where = ("--registry", self._registry)
        config = ("--meta", "task=tissue segmentation of a brain template", "--meta", f"run={self._run}")
        self._type("Publish the best checkpoint", "registry", "register", MODEL, VERSION, best, *config, *where)
        reason = ("--reason", "best on validation data")
        self._type("Put it into production", "registry", "promote", f"{MODEL}@{VERSION}", "production", *reason, *where)
        self._type("What is registered", "registry", "ls", MODEL, *where)
        return self._type("Ask for any 1.x", "registry", "resolve", f"{MODEL}@^1", "--path", *where, read=True).strip()

    def _evaluate(self, location: str) -> dict[str, Any]:
        told = self._type(
            "Measure what the registry gave, on slices that training never saw",
            "evaluate", "--checkpoint", location, "--json", read=True,
        )  # fmt: skip
        metrics: dict[str, Any] = json.loads(told)["metrics"]
        return metrics

    def _draw(self, location: str, metrics: dict[str, Any]) -> None:
        from mlc_trainer.inference import load_inputs
        from mlc_trainer.models import ModelManager

        _title("Pictures")
        draw_curves(read_journal(self._run / "metrics.jsonl"), self._directory / "curves.png")
        manager = ModelManager.from_checkpoint(location, "cpu")
        images, chosen = load_inputs(None, manager.config), list(SLICES)
        validation = BrainTissue().validation()
        truth = [validation[index][1] for index in SLICES]
        title = f"{MODEL} {VERSION} on held-out slices: mean Dice {metrics['val_dice']:.3f}"
        draw_predictions(
            images[chosen],
            _stack(truth),
            manager.predict(images[chosen]),
            self._directory / "predictions.png",
            classes=CLASSES,
            title=title,
        )

    def _tell_where(self, seconds: float) -> None:
        _title(f"Done in {seconds:.0f} s. Where everything lies")
        places = {
            self._directory / "curves.png": "loss and Dice over epochs",
            self._directory / "predictions.png": "predictions beside the truth",
            self._run: "the run: config.json, metrics.jsonl, checkpoints/",
            self._registry: f"the registry with {MODEL} {VERSION}",
            self._config: "the configuration; change it and train your own: mlc train …",
        }
        for path, meaning in places.items():
            click.echo(f"  {path!s:32} {meaning}")

    # ------------------------------------------------------------------ typing

    def _type(self, title: str, *words: object, read: bool = False) -> str:
        """Run a command that must succeed, with its output shown; return what it printed if it is to be *read*."""
        _title(title)
        command = _mlc(*words)
        click.echo(f"$ {_spell(command)}")
        done = subprocess.run(
            command, check=False, env=self._environment, text=True, stdout=subprocess.PIPE if read else None
        )
        if read:
            click.echo(done.stdout, nl=False)
        if done.returncode != 0:
            msg = f"`{_spell(command)}` failed with exit status {done.returncode}; see above"
            raise RunError(msg)
        return done.stdout or ""


def _mlc(*words: object) -> list[str]:
    return [sys.executable, "-m", "mlc_hooks", *map(str, words)]


def _spell(command: list[str]) -> str:
    return shlex.join(["mlc", *command[3:]])


def _title(text: str) -> None:
    click.secho(f"\n── {text}", bold=True)


def _stack(parts: list[Any]) -> Any:
    import torch

    return torch.stack(parts)
