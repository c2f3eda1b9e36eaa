"""Commands that exchange checkpoints with other programs: `export`, `import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlc_core.commands.options import examples, one
from mlc_core.errors import ConfigurationError
from mlc_core.interchange import export_pt, export_safetensors, import_checkpoint
from mlc_core.manager import CheckpointManager
from mlc_core.reader import open_checkpoint
from mlc_core.retention import KeepAll
from mlc_hooks.console import human_size, json_option, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.interchange import Foreign

__all__ = ["commands"]

PICKLED = {".pt", ".pth", ".bin"}


@click.command(
    "export",
    short_help="Write a checkpoint's model for other programs.",
    epilog=examples(
        "mlc checkpoints export runs/brain/checkpoints/unet/best brain.safetensors",
        "mlc checkpoints export runs/brain/checkpoints/unet/best hub/brain --max-shard-size 5GB",
        "mlc checkpoints export runs/brain/checkpoints/unet/best ema.safetensors --item ema",
        "mlc checkpoints export runs/brain/checkpoints/unet/best brain.pt",
    ),
)
@one
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--item", default="model", show_default=True, help="What to export; `show` lists what there is.")
@click.option(
    "--max-shard-size",
    metavar="SIZE",
    help="In a directory, divide what is larger into shards with an index, as 5GB or 512MiB.",
)
@click.option("--overwrite", is_flag=True, help="Replace what is at TARGET; without, it is left as it is.")
@json_option
def export_checkpoint(
    path: str, target: Path, *, item: str, max_shard_size: str | None, overwrite: bool, as_json: bool
) -> None:
    """Write the model of the checkpoint PATH to TARGET, verified on the way.

    The name of TARGET says how: one file if it ends in .safetensors, a file of torch.save if it ends in .pt, .pth or
    .bin (this alone needs torch), else a directory as Hugging Face's hub has them: model.safetensors, or its shards
    and model.safetensors.index.json. Parameters that are tied are written once.
    """
    reader = open_checkpoint(path)
    written: Sequence[Path]
    if target.suffix in PICKLED:
        if max_shard_size is not None:
            msg = f"--max-shard-size {max_shard_size} is for a directory of safetensors, and {target} is one file"
            raise ConfigurationError(msg)
        written = (export_pt(reader, target, item=item, overwrite=overwrite),)
    else:
        written = export_safetensors(reader, target, item=item, max_shard_size=max_shard_size, overwrite=overwrite)
    sizes = {str(file): file.stat().st_size for file in written}
    if as_json:
        print_json({"location": str(reader.location), "item": item, "files": sizes})
        return
    for file, size in sizes.items():
        click.echo(f"wrote  {file}  {human_size(size)}")


@click.command(
    "import",
    short_help="Take other programs' checkpoints over.",
    epilog=examples(
        "mlc checkpoints import best_model.pth runs/old/checkpoints unet --epoch 40 --metric val_dice=0.91",
        "mlc checkpoints import lightning_logs/version_0/checkpoints/last.ckpt runs/old/checkpoints unet",
        "mlc checkpoints import hub/brain runs/pretrained/checkpoints unet",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("model_name")
@click.option("--epoch", type=click.IntRange(min=0), help="Which epoch it is; without: what the file says, if it does.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME=VALUE", help="What was measured; may be given again.")
@json_option
def import_foreign(
    file: Path, directory: Path, model_name: str, *, epoch: int | None, metrics: Sequence[str], as_json: bool
) -> None:
    """Commit what other programs saved in FILE as a checkpoint of MODEL_NAME in DIRECTORY. Removes nothing there.

    FILE is one of torch.save (.pt, .pth, .bin, Lightning's .ckpt), a .safetensors file, or a directory as Hugging
    Face's hub has them. Nothing in it is executed: a file that asks for code is refused, and what it asks for is
    named. What was recognised, and what was left out and why, is printed.
    """
    measured = dict(map(_read_metric, metrics))
    manager = CheckpointManager(directory, model_name, save_strategy="all", retention=KeepAll())
    place, foreign = import_checkpoint(file, manager, epoch=epoch, metrics=measured)
    if as_json:
        print_json({"location": str(place), **_facts(foreign)})
        return
    click.echo(f"{foreign.source} is {foreign.layout}; it is now {place}")
    rows = [(name, what) for name, what in foreign.found.items()]
    rows += [(name, f"left out: {why}") for name, why in foreign.left_out.items()]
    print_table("What became of it", ("in the file", "in the checkpoint"), rows)


def _read_metric(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        name = ""
    if not name:
        msg = f"--metric {text} is not a name and a number, as val_dice=0.91"
        raise ConfigurationError(msg)
    return name, number


def _facts(foreign: Foreign) -> dict[str, object]:
    return {
        "source": foreign.source,
        "layout": foreign.layout,
        "items": sorted(foreign.items),
        "epoch": foreign.epoch,
        "step": foreign.step,
        "metrics": dict(foreign.metrics),
        "found": dict(foreign.found),
        "left_out": dict(foreign.left_out),
    }


commands = (export_checkpoint, import_foreign)
