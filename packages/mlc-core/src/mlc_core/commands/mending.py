"""Commands that find what is corrupt and take it out of the way: `verify`, `quarantine`, `restore`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlc_core.commands.discover import choose, choose_one, only_local
from mlc_core.commands.options import examples, find_monitor, measured, one, place
from mlc_core.commands.progress import progress
from mlc_core.commands.shown import link_changes
from mlc_core.errors import CheckpointNotFoundError
from mlc_core.index import Index
from mlc_core.recovery import examine, find_quarantined, quarantine, restore
from mlc_core.storage import LocalStorage, local
from mlc_hooks.console import json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.commands.discover import Chosen
    from mlc_core.protocols import Storage
    from mlc_core.recovery import Examined

__all__ = ["commands"]


@click.command(
    short_help="Hold every file against its digest.",
    epilog=examples(
        "mlc checkpoints verify runs/brain",
        "mlc checkpoints verify runs/brain/checkpoints/unet/epoch_12",
    ),
)
@place
@json_option
def verify(path: str, *, as_json: bool) -> None:
    """Read every file of one checkpoint, or of all in PATH, and hold it against its digest.

    The exit status is 1 if anything is missing, changed or unreadable. What is wrong can be mended by `repair`, if the
    content is still somewhere, or set aside by `quarantine`; loading `latest` or `best` passes over it meanwhile.
    """
    results = [found for _, found in _examine(choose(path))]
    if as_json:
        print_json([_facts(each) for each in results])
    for each in () if as_json else results:
        click.echo(f"{'ok     ' if each.valid else 'CORRUPT' if each.corrupt else 'UNREAD '}  {each.location}")
        for damage in each.damages:
            click.echo(f"         {damage.cause}")
    if not as_json and any(each.corrupt for each in results):
        click.echo(
            "`mlc checkpoints repair` looks for what was lost; `quarantine --corrupt` sets aside what is corrupt."
        )
    if not all(each.valid for each in results):
        raise SystemExit(1)


def _examine(places: Sequence[Chosen]) -> Sequence[tuple[Storage, Examined]]:
    names: list[tuple[Storage, str]] = []
    total = 0
    for each in places:
        if each.name is not None:
            names.append((each.storage, each.name))
            continue
        index = Index(each.storage)
        names += [(each.storage, name) for name in (*[saved.name for saved in index.saved], *index.damaged)]
        total += sum(saved.size for saved in index.saved)
    with progress("verifying", total) as advance:
        found = [(storage, examine(storage, name, advance)) for storage, name in names]
    return [(storage, examined) for storage, examined in found if examined is not None]


def _facts(found: Examined) -> dict[str, Any]:
    files = [{"file": each.file, "cause": each.cause, "corrupt": each.corrupt} for each in found.damages]
    return {"location": str(found.location), "valid": found.valid, "cause": found.cause, "damages": files}


# ---------------------------------------------------------------------- quarantine


@click.command(
    "quarantine",
    short_help="Set a checkpoint aside without deleting it.",
    epilog=examples(
        'mlc checkpoints quarantine runs/brain/checkpoints/unet/epoch_7 --reason "trained on the wrong data"',
        "mlc checkpoints quarantine runs/brain --corrupt",
    ),
)
@one
@click.option("--corrupt", is_flag=True, help="All in PATH that `verify` finds corrupt, and nothing else.")
@click.option(
    "--reason", default="set aside by hand", show_default=True, help="Why one is set aside; `why` tells it later."
)
@click.option("--dry-run", "-n", is_flag=True, help="Say what would be set aside, and do nothing.")
@measured
@json_option
def set_aside(
    path: str, *, corrupt: bool, reason: str, dry_run: bool, metric: str | None, mode: str | None, as_json: bool
) -> None:
    """Take the checkpoint PATH out of the checkpoints without deleting anything, or with --corrupt all corrupt ones.

    It is renamed into the quarantine beside them: nothing lists, loads or prunes it there, and `latest`, `best` and
    pins no longer lead to it. `ls --quarantined` lists what is there; `restore` puts it back.
    """
    chosen: Sequence[tuple[Storage, str, str]]
    if corrupt:
        found = [(storage, each) for storage, each in _examine(choose(path)) if each.corrupt]
        chosen = [(storage, each.name, str(each.cause)) for storage, each in found]
    else:
        storage, name = _only_one(path)
        chosen = [(storage, name, reason)]
    done = []
    for storage, name, why in chosen:
        fact: dict[str, Any] = {
            "location": str(storage.location(name)),
            "name": name,
            "reason": why,
            "quarantined_to": None,
            "links": {},
        }
        if not dry_run:
            before = dict(storage.pointers())
            fact["quarantined_to"] = quarantine(storage, name, why, monitor=find_monitor(storage, metric, mode))
            fact["links"] = link_changes(before, storage.pointers())
        done.append(fact)
    print_json(done) if as_json else _print(done, dry_run=dry_run)


def _only_one(path: str) -> tuple[Storage, str]:
    try:
        return choose_one(path)
    except CheckpointNotFoundError as error:
        msg = f"{error}; with --corrupt, all corrupt ones in a directory are set aside"
        raise CheckpointNotFoundError(msg) from error


def _print(done: Sequence[dict[str, Any]], *, dry_run: bool) -> None:
    for each in done:
        reason = each["reason"].replace(f"{each['location']}/", "")
        click.echo(f"{'would set aside' if dry_run else 'set aside'}  {each['location']}: {reason}")
        if not dry_run:
            click.echo(f"  it lies in {each['quarantined_to']}")
        for link, entry in each["links"].items():
            click.echo(f"  {link} {'is gone' if entry is None else f'now leads to {entry}'}")
    if not done:
        click.echo("nothing is corrupt")
    elif not dry_run:
        back = all("://" not in each["quarantined_to"] for each in done)
        click.echo(
            f"Nothing was deleted{'; `mlc checkpoints restore` with the new path puts it back' if back else ''}."
        )


@click.command(
    "restore",
    short_help="Put a checkpoint back from quarantine.",
    epilog=examples(
        "mlc checkpoints ls runs/brain --quarantined",
        "mlc checkpoints restore runs/brain/checkpoints/unet/.mlc/quarantine/epoch_7-1f0c22ab",
    ),
)
@one
@click.option("--as", "name", metavar="NAME", help="What to call it, if its own name is taken.")
@measured
@json_option
def take_back(path: str, *, name: str | None, metric: str | None, mode: str | None, as_json: bool) -> None:
    """Put the checkpoint PATH, which lies in quarantine, back among the others; links follow.

    It is verified, and you are told if it is still corrupt: `repair` can then look for its lost files.
    """
    place = Path(os.path.realpath(only_local(path)))
    if not str(place.parent).endswith(f"/{local.QUARANTINE}"):
        msg = f"{path} is not in quarantine; `mlc checkpoints ls --quarantined` lists what is"
        raise CheckpointNotFoundError(msg)
    storage = LocalStorage(place.parent.parent.parent)
    aside = next((each for each in find_quarantined(storage) if each.path == place), None)
    if aside is None:
        msg = f"{path} is not there; `mlc checkpoints ls --quarantined` lists what is"
        raise CheckpointNotFoundError(msg)
    before = dict(storage.pointers())
    target = restore(storage, aside, name=name, monitor=find_monitor(storage, metric, mode))
    links = link_changes(before, storage.pointers())
    found = examine(storage, target.name)
    cause = found.cause if found else None
    if as_json:
        print_json({"location": str(target), "links": links, "valid": cause is None, "cause": cause})
        return
    click.echo(f"restored  {target}")
    for link, entry in links.items():
        click.echo(f"  {link} {'is gone' if entry is None else f'now leads to {entry}'}")
    if cause is not None:
        click.echo(
            f"It is still corrupt, and loading passes over it: {cause}\n`mlc checkpoints repair {target}` may help."
        )


commands: tuple[click.Command, ...] = (verify, set_aside, take_back)
