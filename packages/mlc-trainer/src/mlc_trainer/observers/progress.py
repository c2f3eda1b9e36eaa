"""What a person sees while training runs: a bar on a terminal, a line for each epoch elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from mlc_hooks.console import stdout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_trainer.engine import Position
    from mlc_trainer.observers.protocol import Observer, RunRecord

__all__ = ["LineProgress", "RichProgress", "progress", "worth_a_glance"]


def progress() -> Observer:
    """Return a bar if standard output is a terminal, else lines."""
    return RichProgress() if sys.stdout.isatty() else LineProgress()


class LineProgress:
    """Prints a line for each epoch: for logs and pipes."""

    def __init__(self) -> None:
        self._run: RunRecord | None = None
        self._began = (0.0, 0)

    def run_started(self, run: RunRecord, position: Position) -> None:
        """Say where training begins."""
        self._run = run
        self._began = (time.monotonic(), position.step)
        self.say(_describe_start(run, position))

    def step_ended(self, position: Position) -> None:
        """Say nothing."""

    def step_logged(self, position: Position, values: Mapping[str, float]) -> None:
        """Say nothing."""

    def epoch_ended(self, position: Position, metrics: Mapping[str, float]) -> None:
        """Say what the epoch came to."""
        total = self._run.num_epochs if self._run else position.epoch
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in worth_a_glance(metrics).items())
        self.say(f"epoch {position.epoch:>{len(str(total))}}/{total}  {numbers}")

    def rolled_back(self, position: Position) -> None:
        """Say where training goes on."""
        self.say(f"rolled back to epoch {position.epoch + 1}, batch {position.batch}, step {position.step}")

    def checkpoint_saved(self, position: Position, location: str) -> None:
        """Say nothing: there is one at the end of every epoch."""

    def run_ended(self, position: Position, error: BaseException | None) -> None:
        """Say how it ended and how fast it was."""
        seconds, first = time.monotonic() - self._began[0], self._began[1]
        speed = f"{position.step - first} steps in {seconds:.1f} s"
        self.say(f"finished: {speed}" if error is None else f"stopped at step {position.step}: {_describe(error)}")

    def say(self, text: str) -> None:
        """Print *text*."""
        click.echo(text)


class RichProgress(LineProgress):
    """Shows a bar with the loss, the speed and the time left, below the lines of the epochs."""

    def run_started(self, run: RunRecord, position: Position) -> None:
        """Show the bar."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        speed = TextColumn("{task.fields[speed]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
        self._bar = Progress(*columns, console=stdout(), transient=True)
        self._bar.start()
        total = run.num_epochs * run.batches_per_epoch
        self._task = self._bar.add_task("training", total=total, completed=position.step, speed="")
        super().run_started(run, position)

    def step_ended(self, position: Position) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=position.step)

    def step_logged(self, position: Position, values: Mapping[str, float]) -> None:
        """Show the loss and the speed."""
        steps = position.step - self._began[1]
        per_second = steps / max(time.monotonic() - self._began[0], 1e-9)
        text = f"epoch {position.epoch + 1}  loss {values['loss']:.4f}"
        self._bar.update(self._task, description=text, speed=f"{per_second:.1f} steps/s")

    def run_ended(self, position: Position, error: BaseException | None) -> None:
        """Take the bar away."""
        self._bar.stop()
        super().run_ended(position, error)

    def say(self, text: str) -> None:
        """Print *text* above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)


def worth_a_glance(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return those of *metrics* that go on a line: the losses as wholes and what is measured; the journal has all."""
    wholes = {"train_loss", "val_loss"}
    return {name: one for name, one in metrics.items() if name in wholes or not name.endswith(("_loss", "lr"))}


def _describe(error: BaseException) -> str:
    return str(error) or type(error).__name__  # an interrupt says nothing


def _describe_start(run: RunRecord, position: Position) -> str:
    """Return where training begins, and what is not as it was."""
    if run.resumed_from is None:
        return (
            f"training {run.model_name} for {run.num_epochs} epochs of {run.batches_per_epoch} steps: {run.directory}"
        )
    where = f"epoch {position.epoch + 1}, batch {position.batch} of {run.batches_per_epoch}, step {position.step}"
    lines = [f"resuming {run.model_name} from {run.resumed_from}: {where}"]
    lines += [f"  not as it was: {one}" for one in run.differences]
    return "\n".join(lines)
