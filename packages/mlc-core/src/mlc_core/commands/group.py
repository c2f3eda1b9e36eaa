"""The commands themselves."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlc_core.commands.discover import is_checkpoint, model_storages
from mlc_core.commands.shown import as_row, as_text, facts
from mlc_core.errors import CorruptCheckpointError, StorageError
from mlc_core.index import Index
from mlc_core.reader import CheckpointReader, open_checkpoint
from mlc_hooks.console import json_option, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["checkpoints"]

place = click.argument("path", type=click.Path(path_type=Path), default=Path())


@click.group()
def checkpoints() -> None:
    """List, show and verify checkpoints. Needs no torch."""


@checkpoints.command("ls")
@place
@json_option
def list_checkpoints(path: Path, *, as_json: bool) -> None:
    """List the checkpoints in PATH: a run, a directory of checkpoints, or one model's (default: here).

    Checkpoints are listed in order of commit. Damaged ones are listed with the reason; `verify` reads every file.
    """
    shelves = [(storage, Index(storage)) for storage in model_storages(path)]
    if as_json:
        print_json(
            [
                {
                    "location": str(storage.location("")),
                    "checkpoints": [facts(one) for one in index.saved],
                    "pointers": dict(storage.pointers()),
                    "damaged": {name: str(error) for name, error in index.damaged.items()},
                }
                for storage, index in shelves
            ]
        )
        return
    for storage, index in shelves:
        pointers: dict[str, list[str]] = {}
        for pointer, entry in storage.pointers().items():
            pointers.setdefault(entry, []).append(pointer)
        rows = [as_row(one, pointers.get(one.name, [])) for one in index.saved]
        columns = ("name", "links", "epoch", "step", "metrics", "size", "saved", "why")
        print_table(str(storage.location("")), columns, rows)
        for name, error in index.damaged.items():
            click.echo(f"  damaged: {name}: {error}")


@checkpoints.command()
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def show(path: Path, *, as_json: bool) -> None:
    """Show one checkpoint: what it holds, its metrics, files and tensors. PATH may be a link, as runs/x/…/best."""
    reader = open_checkpoint(path)
    tensors = {item: reader.tensors(item) for item in reader.saved.items}
    if as_json:
        shapes = {
            item: {name: [dtype, shape] for name, (dtype, shape) in found.items()} for item, found in tensors.items()
        }
        print_json({"location": str(reader.location), **facts(reader.saved), "tensors": shapes})
        return
    click.echo(as_text(reader))
    files = [(one.name, f"{one.size:,}", one.xxh3_128, one.serializer) for one in reader.saved.files]
    print_table("Files", ("file", "bytes", "xxh3-128", "serializer"), files)
    rows = [(name, dtype, " × ".join(map(str, shape))) for name, (dtype, shape) in tensors.get("model", {}).items()]
    if rows:
        print_table("Model", ("tensor", "dtype", "shape"), rows)


@checkpoints.command()
@place
@json_option
def verify(path: Path, *, as_json: bool) -> None:
    """Read every file of one checkpoint, or of all in PATH, and hold it against its digest.

    The exit status is 1 if anything is missing or changed.
    """
    results: list[dict[str, Any]] = []
    if is_checkpoint(path):
        results.append(_verify(path, lambda: open_checkpoint(path)))
    else:
        for storage in model_storages(path):
            index = Index(storage)
            for saved in index.saved:
                results += [_verify(storage.location(saved.name), partial(CheckpointReader, storage, saved))]
            results += [_result(storage.location(name), error) for name, error in index.damaged.items()]
    if as_json:
        print_json(results)
    else:
        for one in results:
            click.echo(f"{'ok     ' if one['valid'] else 'CORRUPT'}  {one['location']}")
            if not one["valid"]:
                click.echo(f"         {one['cause']}")
    if not all(one["valid"] for one in results):
        raise SystemExit(1)


def _verify(location: Path, opened: Callable[[], CheckpointReader]) -> dict[str, Any]:
    try:
        opened().verify()
    except (CorruptCheckpointError, StorageError) as error:
        return _result(location, error)
    return _result(location, None)


def _result(location: Path, error: Exception | None) -> dict[str, Any]:
    return {"location": str(location), "valid": error is None, "cause": None if error is None else str(error)}
