"""`mlc demo`: the commands that a person would type, typed one after the other and explained."""

from __future__ import annotations

import sys
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import click

from mlc_trainer.errors import ConfigError, RunError

__all__ = ["demo"]

GOAL = 0.88
"""Mean Dice on the held-out slab; the best threshold after smoothing reaches 0.86."""


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"))
@click.option(
    "--prove/--no-prove",
    default=True,
    show_default=True,
    help="Also train a twin that nothing kills, and compare the final weights bit by bit.",
)
def demo(directory: Path, *, prove: bool) -> None:
    """Train, kill, resume, register and evaluate a real model. Everything lands in DIRECTORY (default: demo).

    A small U-Net learns grey and white matter on slices of a brain template (an average of 152 people, seen through a
    simulated scanner). Its process is killed with SIGKILL in the middle of an epoch and resumed; its final weights are
    then compared with those of a twin that nothing killed. The best checkpoint becomes version 1.0.0 in a registry,
    goes to production, is found by the range ^1, and is measured on slices that training never saw.
    """
    from mlc_trainer.demo.script import Script

    missing = [name for name in ("mlc_registry", "matplotlib") if find_spec(name) is None]
    if missing:
        msg = f"the demo also needs {', '.join(missing)}: pip install 'mlc-trainer[demo]'"
        raise ConfigError(msg)
    if directory.exists() and any(directory.iterdir()):
        msg = f"{directory} is not empty; name another directory for the demo, or remove it"
        raise RunError(msg)
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "brain.toml"
    config.write_text(resources.files(__package__).joinpath("brain.toml").read_text(encoding="utf-8"), encoding="utf-8")
    dice = Script(directory, config, prove=prove).play()
    if dice < GOAL:
        click.echo(f"Error: mean Dice {dice:.3f} is below the {GOAL} that this task allows", err=True)
        sys.exit(1)
