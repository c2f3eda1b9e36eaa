"""Commands that say what stays and what goes: `pin`, `unpin`, `prune`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from mlc_core.catalogs import retention_policies
from mlc_core.commands.discover import choose_one, open_storages
from mlc_core.commands.options import agree, changing, check_answer, examples, find_monitor, measured, one, place
from mlc_core.errors import ConfigurationError, CorruptCheckpointError
from mlc_core.keeper import Keeper
from mlc_core.recovery import examine
from mlc_core.retention import AnyOf, KeepAll, KeepBestAndLatest
from mlc_core.shelf import Shelf
from mlc_hooks.console import human_size, json_option, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.protocols import RetentionPolicy, Storage
    from mlc_core.records import Decision, Monitor

__all__ = ["commands"]


@click.command(
    short_help="Let a checkpoint stay, whatever a policy says.",
    epilog=examples(
        'mlc checkpoints pin runs/brain/checkpoints/unet/epoch_40 --reason "the one in the paper"',
    ),
)
@one
@click.option("--reason", help="Why it must stay; `why` tells it later.")
@json_option
def pin(path: str, *, reason: str | None, as_json: bool) -> None:
    """Let the checkpoint PATH stay, whatever a training or `prune` would keep, until it is unpinned."""
    storage, name = choose_one(path)
    Keeper(Shelf(storage, None), KeepAll()).pin(name, reason=reason)
    _print_pin(storage, name, "pinned", as_json=as_json)


@click.command(
    short_help="Leave a checkpoint to the policy again.",
    epilog=examples(
        "mlc checkpoints unpin runs/brain/checkpoints/unet/epoch_40",
    ),
)
@one
@json_option
def unpin(path: str, *, as_json: bool) -> None:
    """Leave the checkpoint PATH to the policy of the training, or to `prune`, again."""
    storage, name = choose_one(path)
    was_pinned = Keeper(Shelf(storage, None), KeepAll()).unpin(name)
    _print_pin(storage, name, "unpinned" if was_pinned else "was not pinned", as_json=as_json)


def _print_pin(storage: Storage, name: str, done: str, *, as_json: bool) -> None:
    location = str(storage.location(name))
    print_json({"location": location, "done": done}) if as_json else click.echo(f"{done}  {location}")


@click.command(
    short_help="Remove what a policy does not keep, after asking.",
    epilog=examples(
        "mlc checkpoints prune runs/brain --keep 3 --metric val_dice --mode max --dry-run",
        "mlc checkpoints prune runs/brain --policy latest,count=2 --policy best,metric=loss,mode=min",
    ),
)
@place
@click.option(
    "--keep", type=click.IntRange(min=1), metavar="N", help="Keep N: the best, the latest, and those before it."
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME[,OPTION=VALUE…]",
    help="Keep what this policy keeps, as best,metric=val_dice,mode=max,count=3. Given again: what any of them keeps.",
)
@measured
@changing
@json_option
def prune(
    path: str,
    *,
    keep: int | None,
    policies: tuple[str, ...],
    metric: str | None,
    mode: str | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Show which checkpoints in PATH would stay or go, and why; ask; and remove those.

    Pinned ones stay, at least one of each model stays, and what is damaged is not touched. Nothing goes that was not
    shown, even if a training saves meanwhile.
    """
    check_answer(yes=yes, dry_run=dry_run, as_json=as_json)
    if (keep is None) == (not policies):
        msg = "say what to keep: either --keep N or --policy NAME,OPTION=VALUE"
        raise click.UsageError(msg)
    keepers: list[tuple[Storage, Keeper, tuple[Decision, ...]]] = []
    for storage in open_storages(path):
        monitor = find_monitor(storage, metric, mode)
        policy = _join(policies) if keep is None else _keep(keep, monitor, storage)
        keeper = Keeper(Shelf(storage, monitor), policy)
        plan = keeper.plan()
        if metric is not None and plan and not any(metric in each.saved.metrics for each in plan):
            known = ", ".join(sorted({name for each in plan for name in each.saved.metrics})) or "none"
            msg = f"no checkpoint in {storage.location('')} has a metric {metric!r}; there are: {known}"
            raise click.UsageError(msg)
        keepers.append((storage, keeper, plan))
    gone = [each for _, _, plan in keepers for each in plan if not each.keep]
    if not as_json:
        for storage, _, plan in keepers:
            rows = [(_word(each), each.saved.name, human_size(each.saved.size), each.reason) for each in plan]
            print_table(str(storage.location("")), ("", "name", "size", "why"), rows)
    for storage, _, plan in keepers:
        _check_rest(storage, plan)
    count = f"{len(gone)} checkpoint{'s' if len(gone) > 1 else ''}"
    agreed = bool(gone) and agree(f"Remove {count}?", yes=yes, dry_run=dry_run, as_json=as_json)
    if agreed:
        for _, keeper, plan in keepers:
            keeper.prune(only={each.saved.id for each in plan if not each.keep})
    if as_json:
        print_json([_facts(storage, plan, done=agreed) for storage, _, plan in keepers])
    else:
        click.echo(f"removed {count}" if agreed else "nothing was removed" if gone else "nothing is to be removed")


def _check_rest(storage: Storage, plan: Sequence[Decision]) -> None:
    """Refuse to remove anything where nothing that stays can be loaded.

    Raises:
        CorruptCheckpointError: If everything that would stay is corrupt.
    """
    if all(each.keep for each in plan):
        return
    for each in reversed(plan):
        examined = examine(storage, each.saved.name) if each.keep else None
        if examined is not None and examined.valid:
            return
    msg = (
        f"all that would stay in {storage.location('')} is corrupt, so nothing is removed; "
        "see `mlc checkpoints verify`, then `repair` or `quarantine --corrupt`"
    )
    raise CorruptCheckpointError(msg)


def _keep(count: int, monitor: Monitor | None, storage: Storage) -> RetentionPolicy:
    if monitor is not None:
        return KeepBestAndLatest(count=count, metric=monitor.metric, mode=monitor.mode)
    if "best" in storage.pointers():
        msg = (
            f"{storage.location('')} has a `best` checkpoint, and nothing says by which metric; "
            "give --metric and --mode so that it is kept, or a --policy"
        )
        raise ConfigurationError(msg)
    return KeepBestAndLatest(count=count)


def _join(texts: Sequence[str]) -> RetentionPolicy:
    policies = tuple(_read_policy(text) for text in texts)
    return policies[0] if len(policies) == 1 else AnyOf(policies)


def _read_policy(text: str) -> RetentionPolicy:
    name, *parts = text.split(",")
    options = {}
    for part in parts:
        option, equals, value = part.partition("=")
        if not equals or not option.strip():
            msg = f"--policy {text!r}: {part!r} is not OPTION=VALUE; write it as best,metric=val_dice,mode=max,count=3"
            raise ConfigurationError(msg)
        options[option.strip()] = _read_value(value.strip())
    return retention_policies().make(name.strip(), **options)


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)  # numbers, true, false; anything else is text
    except json.JSONDecodeError:
        return text


def _word(decision: Decision) -> str:
    return "keep" if decision.keep else "REMOVE"


def _facts(storage: Storage, plan: Sequence[Decision], *, done: bool) -> dict[str, Any]:
    decisions = [
        {
            "name": each.saved.name,
            "id": each.saved.id,
            "keep": each.keep,
            "reason": each.reason,
            "size": each.saved.size,
        }
        for each in plan
    ]
    return {"location": str(storage.location("")), "removed": done, "decisions": decisions}


commands: tuple[click.Command, ...] = (pin, unpin, prune)
