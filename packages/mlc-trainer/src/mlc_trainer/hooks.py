"""What mlc-trainer offers, through the same door as everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import click

    from mlc_trainer.observers import Observer

__all__ = [
    "demo_command",
    "evaluate_command",
    "gradient_norm",
    "infer_command",
    "lr_monitor",
    "mlc_callbacks",
    "mlc_commands",
    "mlc_trackers",
    "profiler",
    "resume_command",
    "runs_command",
    "tensorboard",
    "throughput",
    "train_command",
]


@hookimpl
def mlc_commands() -> Mapping[str, Callable[[], click.Command]]:
    """Offer `mlc train`, `resume`, `evaluate`, `infer`, `runs` and `demo`."""
    return {
        "demo": demo_command,
        "evaluate": evaluate_command,
        "infer": infer_command,
        "resume": resume_command,
        "runs": runs_command,
        "train": train_command,
    }


@hookimpl
def mlc_callbacks() -> Mapping[str, Callable[..., Observer]]:
    """Offer the profiler, and what has numbers to log."""
    return {
        "gradient_norm": gradient_norm,
        "lr_monitor": lr_monitor,
        "profiler": profiler,
        "throughput": throughput,
    }


@hookimpl
def mlc_trackers() -> Mapping[str, Callable[..., Observer]]:
    """Offer TensorBoard."""
    return {"tensorboard": tensorboard}


def gradient_norm(*, every: int = 1, modules: bool = False) -> Observer:
    """Log the norm of the gradient before it is clipped, also of each child of the model."""
    from mlc_trainer.observers.gradients import GradientNorm

    return GradientNorm(every=every, modules=modules)


def lr_monitor() -> Observer:
    """Log the learning rate of every group of weights."""
    from mlc_trainer.observers.learning_rates import LearningRates

    return LearningRates()


def throughput() -> Observer:
    """Log samples and steps a second, and the share of the time that was waited for data."""
    from mlc_trainer.observers.throughput import Throughput

    return Throughput()


def profiler(*, wait: int = 5, steps: int = 5) -> Observer:
    """Write where the time of a few steps goes."""
    from mlc_trainer.observers.profile import StepProfiler

    return StepProfiler(wait, steps)


def tensorboard() -> Observer:
    """Write curves for TensorBoard. Needs `[tensorboard]`."""
    from mlc_trainer.observers.tensorboard import TensorBoard

    return TensorBoard()


def train_command() -> click.Command:
    """Train a model from a configuration file."""
    from mlc_trainer.commands.training import train

    return train


def resume_command() -> click.Command:
    """Go on with a run that was stopped or killed, to the bit."""
    from mlc_trainer.commands.training import resume

    return resume


def evaluate_command() -> click.Command:
    """Measure a checkpoint on its validation data."""
    from mlc_trainer.commands.using import evaluate

    return evaluate


def infer_command() -> click.Command:
    """Predict with a checkpoint."""
    from mlc_trainer.commands.using import infer

    return infer


def runs_command() -> click.Command:
    """List, show, compare, draw and report runs."""
    from mlc_trainer.commands.runs import runs

    return runs


def demo_command() -> click.Command:
    """Train, kill, resume, register and evaluate a real model, in two minutes."""
    from mlc_trainer.demo.command import demo

    return demo
