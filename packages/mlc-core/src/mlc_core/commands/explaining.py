"""The command that answers `why`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import attrs
import click

from mlc_core.commands.discover import choose_one, open_storages
from mlc_core.commands.options import examples
from mlc_core.errors import CheckpointNotFoundError
from mlc_core.explanation import explain
from mlc_core.shelf import PIN
from mlc_hooks.console import json_option, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.explanation import Explanation
    from mlc_core.protocols import Storage

__all__ = ["commands"]

SHORT = 12  # digits of an id, enough to tell checkpoints apart


@click.command(
    short_help="Why one was saved, is kept, or was removed.",
    epilog=examples(
        "mlc checkpoints why runs/brain/checkpoints/unet/best",
        "mlc checkpoints why epoch_7 runs/brain",
        "mlc checkpoints why 3f0c22ab runs/brain",
    ),
)
@click.argument("checkpoint")
@click.argument("path", required=False)
@json_option
def why(checkpoint: str, path: str | None, *, as_json: bool) -> None:
    """Say why a checkpoint was saved and why it is kept, or why it was removed or set aside.

    CHECKPOINT is a path, or a name, a link or the beginning of an id; those are looked up in PATH (default: here),
    also for a checkpoint that is no more. A name may have been given more than once: each is told.
    """
    name, storages = _place(checkpoint, path)
    found = [(storage, one) for storage in storages for one in explain(storage, name)]
    if not found:
        places = ", ".join(str(storage.location("")) for storage in storages)
        msg = f"nothing is known of {name!r} in {places}; `mlc checkpoints ls` lists what is there"
        raise CheckpointNotFoundError(msg)
    if as_json:
        print_json([{"location": str(storage.location("")), **attrs.asdict(one)} for storage, one in found])
        return
    for storage, one in found:
        _print(storage, one)


def _place(checkpoint: str, path: str | None) -> tuple[str, Sequence[Storage]]:
    if path is None and ("/" in checkpoint or os.path.lexists(checkpoint)):
        try:
            storage, name = choose_one(checkpoint)
        except CheckpointNotFoundError:
            place, _, name = checkpoint.rstrip("/").rpartition("/")  # it may be gone
            return name, open_storages(place or ".", own=True)
        return name, [storage]
    return checkpoint, open_storages(path or ".", own=True)


def _print(storage: Storage, one: Explanation) -> None:
    links = ["pinned" if link.startswith(PIN) else link for link in one.links]
    state = one.state + (f" ({', '.join(sorted(links))})" if links else "")
    known = f", id {one.id[:SHORT]}" if one.id else ""
    rows = [_row(note) for note in one.notes]
    print_table(f"{storage.location(one.name)}{known}: {state}", ("when", "what", "why"), rows)


def _row(note: Any) -> tuple[object, ...]:
    where = note.facts.get("where")
    return (
        note.at[:19].replace("T", " "),
        note.event,
        "; ".join(filter(None, (note.reason, where and f"it lies in {where}"))),
    )


commands: tuple[click.Command, ...] = (why,)
