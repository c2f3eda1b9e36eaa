"""`mlc train` and `mlc resume`."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlc_hooks.console import json_option, print_json
from mlc_trainer.commands.shared import allow_local_modules, plain_warnings, print_metrics
from mlc_trainer.signals import AGAIN, WENT_ON, StopRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlc_trainer.config import ExperimentConfig
    from mlc_trainer.experiment import ExperimentManager
    from mlc_trainer.observers import Observer

__all__ = ["resume", "train"]


prove_option = click.option(
    "--prove",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Do not train here: train a little in DIR, undisturbed, and killed and resumed, and compare every step.",
)


@click.command()
@click.argument("config", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--run-dir", type=click.Path(path_type=Path), help="Where the run lies. Default: runs/NAME-OF-CONFIG.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a setting: training.num_epochs=5.")
@click.option(
    "--auto-resume",
    is_flag=True,
    help="Go on from the latest checkpoint where there is one: for jobs that are started again by a machine.",
)
@prove_option
@json_option
def train(
    config: Path,
    run_dir: Path | None,
    settings: tuple[str, ...],
    prove: Path | None,
    *,
    auto_resume: bool,
    as_json: bool,
) -> None:
    """Train a model from CONFIG, a TOML, JSON or YAML file.

    The run directory gets the resolved configuration, a journal (metrics.jsonl) and checkpoints: the latest state
    after every epoch, the best, and whatever the save strategy asks for. If the process dies, `mlc resume RUN_DIR`
    goes on from the last checkpoint and reaches the same weights, bit for bit.

    Several processes train one model together when torchrun starts them; batches are shared out among them:

        torchrun --nproc-per-node 2 --no-python mlc train CONFIG

    A configuration names classes by their import path, as factory = "my_package.models:UNet", also from the current
    directory. `mlc demo` leaves one to begin with; every table and key is explained in the documentation.
    """
    from mlc_trainer.config_files import read_config

    allow_local_modules()
    if prove is not None:
        _prove(read_config(config, settings), prove, as_json=as_json)
        return
    with _taking_part(f"before training began; {AGAIN}"):
        _train(config, run_dir or Path("runs") / config.stem, settings, auto_resume=auto_resume, as_json=as_json)


def _train(config: Path, run_dir: Path, settings: tuple[str, ...], *, auto_resume: bool, as_json: bool) -> None:
    from mlc_trainer.config_files import read_config

    with _before(f"before training began; {AGAIN}"):
        from mlc_trainer.experiment import ExperimentManager

        experiment = ExperimentManager(read_config(config, settings), run_dir, observers=_screen(as_json=as_json))
        begun = auto_resume and experiment.has_begun
    _report(experiment, experiment.run(resume_from_checkpoint="latest" if begun else None), as_json=as_json)


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--epochs", type=click.IntRange(min=1), help="Train so many more epochs, not to the configured total.")
@prove_option
@json_option
def resume(run_dir: Path, epochs: int | None, prove: Path | None, *, as_json: bool) -> None:
    """Go on with the run in RUN_DIR from its latest checkpoint.

    Data order, dropout, augmentation, optimizer, schedule and metrics go on where they were, in the middle of an
    epoch too. What is not as it was when the checkpoint was saved (another version, another number of threads) is
    named, because then the rest need not be equal to the bit.
    """
    from mlc_trainer.directory import RunDirectory

    allow_local_modules()
    if prove is not None:
        _prove(RunDirectory(run_dir).read_config(), prove, as_json=as_json)
        return
    with _taking_part(WENT_ON):
        _resume(run_dir, epochs, as_json=as_json)


def _resume(run_dir: Path, epochs: int | None, *, as_json: bool) -> None:
    from mlc_trainer.commands.resuming import ResumeTable
    from mlc_trainer.directory import RunDirectory

    with _before(WENT_ON):
        from mlc_trainer.experiment import ExperimentManager

        watching = () if as_json else (ResumeTable(), *_screen(as_json=as_json))
        experiment = ExperimentManager(RunDirectory(run_dir).read_config(), run_dir, observers=watching)
    _report(experiment, experiment.resume_training(epochs), as_json=as_json)


@contextmanager
def _before(message: str) -> Iterator[None]:
    """Answer signals already while everything is loaded; a run then answers them itself."""
    request = StopRequest()
    with request.listening(), request.ending(message):
        yield


@contextmanager
def _taking_part(message: str) -> Iterator[None]:
    """Part from the other processes at the end, if there are any; nothing that trained is held here."""
    with _before(message):
        from mlc_trainer.distributed import leaving  # torch takes its time
    try:
        with plain_warnings(), leaving():
            yield
    except KeyboardInterrupt:
        click.echo("Error: interrupted; what was saved before stays, and can be resumed", err=True)
        raise click.exceptions.Exit(128 + signal.SIGINT) from None


def _prove(config: ExperimentConfig, place: Path, *, as_json: bool) -> None:
    from mlc_trainer.distributed import require_one_process
    from mlc_trainer.proving import prove

    require_one_process("a proof", "leave torchrun out")
    proof = prove(config, place)
    if as_json:
        print_json({"steps": proof.steps, "killed_at": proof.killed_at, "resumed_from": proof.resumed_from})
        return
    click.echo(
        f"killed with SIGKILL after step {proof.killed_at}, resumed from step {proof.resumed_from}: batches, losses, "
        f"weights, optimizer and schedules of all {proof.steps} steps are those of an undisturbed run, to the bit"
    )


def _screen(*, as_json: bool) -> tuple[Observer, ...]:
    from mlc_trainer.observers.progress import progress

    return () if as_json else (progress(),)


def _report(experiment: ExperimentManager, metrics: dict[str, float], *, as_json: bool) -> None:
    if not experiment.is_first:
        return  # one of several processes speaks for all
    checkpoints = experiment.checkpoints
    report = experiment.resume_report
    facts = {
        "run_dir": str(experiment.directory.path),
        "best": str(checkpoints.get_best_checkpoint_path()),
        "latest": str(checkpoints.get_latest_checkpoint_path()),
        "resume": None if report is None else report.as_data(),
    }
    print_metrics("After the last epoch", metrics, facts, as_json=as_json)
    if not as_json:
        click.echo(f"best    {facts['best']}\nlatest  {facts['latest']}\njournal {experiment.directory.journal}")
