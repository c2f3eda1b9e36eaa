"""`mlc evaluate` and `mlc infer`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlc_hooks.console import json_option, print_json
from mlc_trainer.commands.shared import allow_local_modules, plain_warnings, print_metrics

if TYPE_CHECKING:
    from mlc_trainer.models import ModelManager

__all__ = ["evaluate", "infer"]

run_dir_argument = click.argument("run_dir", type=click.Path(path_type=Path), required=False)
checkpoint_option = click.option("--checkpoint", type=click.Path(path_type=Path), help="One checkpoint, by its path.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")


@click.command()
@run_dir_argument
@checkpoint_option
@device_option
@json_option
def evaluate(run_dir: Path | None, checkpoint: Path | None, device: str, *, as_json: bool) -> None:
    """Measure a checkpoint on the validation data of its run.

    Without --checkpoint it is the best one of RUN_DIR; which one it was is said. A checkpoint is complete by itself:
    a copy of it, or a registered version of it, can be measured without its run directory.
    """
    with plain_warnings():
        manager = _load(run_dir, checkpoint, device, quiet=as_json)
        facts = {"checkpoint": str(manager.location), "epoch": manager.saved.epoch, "step": manager.saved.step}
        print_metrics("On validation data", manager.evaluate(), facts, as_json=as_json)


@click.command()
@run_dir_argument
@click.option("--input", "source", type=click.Path(path_type=Path), help="A .npy array (N, C, …) to predict.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Where to write the .npy array.")
@click.option(
    "--activation",
    type=click.Choice(["none", "sigmoid", "softmax", "argmax"]),
    default="none",
    show_default=True,
    help="What to do with the model's output, over channels.",
)
@checkpoint_option
@device_option
@json_option
def infer(
    run_dir: Path | None,
    source: Path | None,
    output: Path,
    activation: str,
    checkpoint: Path | None,
    device: str,
    *,
    as_json: bool,
) -> None:
    """Predict with a checkpoint: the best one of RUN_DIR, or the one named.

    Without --input the inputs are the validation data of the run.
    """
    from mlc_trainer.inference import activate, load_inputs, write_output

    with plain_warnings():
        manager = _load(run_dir, checkpoint, device, quiet=as_json)
        prediction = activate(manager.predict(load_inputs(source, manager.config)), activation)
    write_output(output, prediction)
    facts = {"checkpoint": str(manager.location), "output": str(output), "shape": list(prediction.shape)}
    if as_json:
        print_json(facts)
    else:
        click.echo(f"wrote {output}: {' × '.join(map(str, prediction.shape))} {str(prediction.dtype)[6:]}")


def _load(run_dir: Path | None, checkpoint: Path | None, device: str, *, quiet: bool) -> ModelManager:
    from mlc_trainer.distributed import require_one_process
    from mlc_trainer.models import ModelManager
    from mlc_trainer.observers.progress import worth_a_glance

    require_one_process("this command", "leave torchrun out")
    if (run_dir is None) == (checkpoint is None):
        msg = "name either RUN_DIR, for its best checkpoint, or --checkpoint PATH"
        raise click.UsageError(msg)
    allow_local_modules()
    if checkpoint is not None:
        which, manager = "the checkpoint", ModelManager.from_checkpoint(checkpoint, device)
    else:
        assert run_dir is not None
        manager = ModelManager.from_experiment_dir(run_dir, device)
        is_best = manager.config.checkpoints.monitor_metric in manager.saved.metrics
        which = "the best checkpoint" if is_best else "the latest checkpoint, since none was measured,"
    if not quiet:
        numbers = [f"{name} {value:.4f}" for name, value in worth_a_glance(manager.saved.metrics).items()]
        place = ", ".join([f"epoch {manager.saved.epoch}", f"step {manager.saved.step}", *numbers])
        click.echo(f"loaded {which} {manager.location} ({place})")
    return manager
