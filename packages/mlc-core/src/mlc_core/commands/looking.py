"""Commands that look and change nothing: `ls`, `show`, `du`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from mlc_core.commands.discover import local_storages, open_storages
from mlc_core.commands.options import examples, one, place
from mlc_core.commands.shown import as_row, as_text, facts
from mlc_core.history import read_history
from mlc_core.index import Index
from mlc_core.reader import open_checkpoint
from mlc_core.recovery import find_quarantined
from mlc_core.storage import local
from mlc_core.usage import measure
from mlc_hooks.console import human_size, json_option, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.storage import LocalStorage

__all__ = ["commands"]


@click.command(
    "ls",
    short_help="List checkpoints, with metrics, size and why.",
    epilog=examples(
        "mlc checkpoints ls runs/brain",
        "mlc checkpoints ls runs/brain --quarantined",
    ),
)
@place
@click.option("--quarantined", is_flag=True, help="List what was set aside instead.")
@json_option
def list_checkpoints(path: str, *, quarantined: bool, as_json: bool) -> None:
    """List the checkpoints in PATH: a run, a directory of checkpoints, one model's, or a URL (default: here).

    They are listed in order of commit, with the links that lead to them; `pinned` ones are never pruned. Damaged ones
    are listed with the reason; `verify` reads every file.
    """
    if quarantined:
        _list_quarantined(local_storages(path, own=True), as_json=as_json)
        return
    shelves = [(storage, Index(storage)) for storage in open_storages(path)]
    if as_json:
        print_json(
            [
                {
                    "location": str(storage.location("")),
                    "checkpoints": [facts(each) for each in index.saved],
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
        rows = [as_row(each, pointers.get(each.name, [])) for each in index.saved]
        columns = ("name", "links", "epoch", "step", "metrics", "size", "saved", "why")
        print_table(str(storage.location("")), columns, rows)
        for name, error in index.damaged.items():
            click.echo(f"  damaged: {name}: {error}")


def _list_quarantined(storages: Sequence[LocalStorage], *, as_json: bool) -> None:
    found = [(storage, find_quarantined(storage)) for storage in storages]
    if as_json:
        print_json(
            [
                {
                    "location": str(storage.location("")),
                    "quarantined": [
                        {
                            "name": each.name,
                            "path": str(each.path),
                            "id": each.saved and each.saved.id,
                            "size": each.size,
                        }
                        for each in aside
                    ],
                }
                for storage, aside in found
            ]
        )
        return
    for storage, aside in found:
        if not aside:
            click.echo(f"{storage.location('')}: nothing is in quarantine")
            continue
        notes = [note for note in read_history(storage) if note.event == "quarantined"]
        reasons = {str(note.facts.get("where")).rpartition("/")[2]: note.reason for note in notes}
        rows = [(each.path.name, each.name, human_size(each.size), reasons.get(each.path.name)) for each in aside]
        place = f"{storage.location('')}/{local.QUARANTINE}"
        print_table(place, ("in quarantine as", "name", "size", "why"), rows)
        click.echo(f"Put one back as `mlc checkpoints restore {aside[-1].path}`, or delete it: no other needs it.")


@click.command(
    short_help="Show what one checkpoint holds.",
    epilog=examples(
        "mlc checkpoints show runs/brain/checkpoints/unet/best",
    ),
)
@one
@json_option
def show(path: str, *, as_json: bool) -> None:
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
    files = [(each.name, f"{each.size:,}", each.xxh3_128, each.serializer) for each in reader.saved.files]
    print_table("Files", ("file", "bytes", "xxh3-128", "serializer"), files)
    rows = [(name, dtype, " × ".join(map(str, shape))) for name, (dtype, shape) in tensors.get("model", {}).items()]
    if rows:
        print_table("Model", ("tensor", "dtype", "shape"), rows)


@click.command(
    short_help="What checkpoints cost on the disk, and what they share.",
    epilog=examples(
        "mlc checkpoints du runs/brain",
    ),
)
@place
@json_option
def du(path: str, *, as_json: bool) -> None:
    """Say what the checkpoints in PATH cost on the disk, what they share, and what deleting each would free.

    A file that did not change between two checkpoints is on the disk once, with a name in each: deleting one of them
    frees only what no other one has. Quarantine, interrupted saves (staging) and removals (trash) are listed too.
    """
    found = [(storage, measure(storage)) for storage in local_storages(path, own=True)]
    if as_json:
        print_json(
            [
                {"location": str(storage.location("")), "usage": [attrs.asdict(each) for each in rows]}
                for storage, rows in found
            ]
        )
        return
    for storage, rows in found:
        columns = ("kind", "name", "size", "shared", "deleting it frees")
        shown = [
            (
                each.kind,
                "" if each.kind == "total" else each.name,
                *map(human_size, (each.apparent, each.shared, each.freed)),
            )
            for each in rows
        ]
        print_table(str(storage.location("")), columns, shown)


commands: tuple[click.Command, ...] = (list_checkpoints, show, du)
