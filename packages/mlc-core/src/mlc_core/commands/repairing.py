"""The command that puts right what can be put right: `repair`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlc_core.commands.discover import choose, choose_local
from mlc_core.commands.options import agree, changing, check_answer, examples, find_monitor, measured, place
from mlc_core.commands.progress import progress
from mlc_core.errors import StorageError
from mlc_core.history import seen_from
from mlc_core.index import Index
from mlc_core.recovery import plan_repairs
from mlc_hooks.console import json_option, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.recovery import Plan, Repair
    from mlc_core.storage import LocalStorage

__all__ = ["commands"]


@click.command(
    short_help="Mend files, links and leftovers, after asking.",
    epilog=examples(
        "mlc checkpoints repair runs/brain --dry-run",
        "mlc checkpoints repair runs/brain --from /backup/brain --quarantine --yes",
    ),
)
@place
@click.option(
    "--from",
    "copies",
    multiple=True,
    metavar="COPY",
    help="Another place with these checkpoints, to take lost files from. May be given again.",
)
@click.option("--quarantine", is_flag=True, help="Set aside what is corrupt and cannot be mended.")
@click.option("--now", is_flag=True, help="Delete what dead writers left without waiting a minute to be sure.")
@measured
@changing
@json_option
def repair(
    path: str,
    *,
    copies: tuple[str, ...],
    quarantine: bool,
    now: bool,
    metric: str | None,
    mode: str | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Find what is wrong in PATH, say what can be done about it, ask, and do it.

    FILES that are missing or changed are put back if one of the same size and digest is in another checkpoint beside
    it, in quarantine, or in a --from COPY. A damaged file is never written to: a new one takes its place.

    MANIFESTS that cannot be believed are taken from the checkpoint of that name in a --from COPY, if every file that
    it lists is here and sound.

    LINKS, that is `latest`, `best` and pins, that lead nowhere or elsewhere than they should are set right.

    LEFTOVERS of interrupted saves and removals are deleted. What a living process holds is never touched.

    If PATH is one checkpoint, only its files are looked at. The exit status is 0 if nothing is wrong in the end.
    """
    check_answer(yes=yes, dry_run=dry_run, as_json=as_json)
    others = [chosen.storage for copy in copies for chosen in choose(copy)]
    plans = []
    for storage, name in choose_local(path):
        monitor = find_monitor(storage, metric, mode)
        with progress("verifying", _size(storage, name)) as advance:
            plan = plan_repairs(
                storage, name=name, copies=others, monitor=monitor, set_aside=quarantine, now=now, advance=advance
            )
        plans.append((storage, plan))
    if not as_json:
        _print_plans(plans)
    count = sum(len(plan.repairs) for _, plan in plans)
    agreed = count > 0 and agree(f"Do {_number(count)}?", yes=yes, dry_run=dry_run, as_json=as_json)
    outcomes = [[_outcome(storage, each, agreed=agreed) for each in plan.repairs] for storage, plan in plans]
    if as_json:
        print_json([_facts(*each, outcome) for each, outcome in zip(plans, outcomes, strict=True)])
    elif agreed:
        _print_outcomes([one for found in outcomes for one in found])
    undone = [one for found in outcomes for one in found if not one["done"]]
    if undone or any(plan.hopeless for _, plan in plans):
        raise SystemExit(1)


def _size(storage: LocalStorage, name: str | None) -> int:
    return sum(one.size for one in Index(storage).saved if name in {None, one.name})


def _number(count: int) -> str:
    return "this" if count == 1 else f"these {count} things"


def _outcome(storage: LocalStorage, repair: Repair, *, agreed: bool) -> dict[str, Any]:
    failure = None
    if agreed:
        try:
            repair.apply(storage)
        except StorageError as error:
            failure = str(error)
    facts = {name: getattr(repair, name) for name in ("kind", "what", "wrong", "remedy")}
    return {**facts, "done": agreed and failure is None, "failure": failure}


def _facts(storage: LocalStorage, plan: Plan, outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    hopeless = [{"location": str(one.location), "cause": one.cause} for one in plan.hopeless]
    return {"location": str(storage.location("")), "repairs": outcomes, "hopeless": hopeless}


def _print_plans(plans: Sequence[tuple[LocalStorage, Plan]]) -> None:
    for storage, plan in plans:
        click.echo(f"{storage.location('')}: {'' if plan.repairs or plan.hopeless else 'nothing is wrong'}".rstrip())
        for each in plan.repairs:
            click.echo(f"  {_within(storage, each.what, each.wrong)}\n    -> {each.remedy}")
        for one in plan.hopeless:
            click.echo(f"  {_within(storage, one.name, str(one.cause))}")
            advice = "give --from COPY to look for it elsewhere, or --quarantine to set the checkpoint aside"
            click.echo(
                f"    -> {advice if one.corrupt else 'it cannot be read now; try again when the storage is well'}"
            )


def _within(storage: LocalStorage, what: str, wrong: str) -> str:
    """Return both with names as they are below the directory, which is said above, and nothing said twice."""
    text = seen_from(storage, wrong)
    return text if text.startswith(what) else f"{what}: {text}"


def _print_outcomes(outcomes: Sequence[dict[str, Any]]) -> None:
    click.echo(f"{sum(one['done'] for one in outcomes)} of {len(outcomes)} done")
    for one in outcomes:
        if one["failure"] is not None:
            click.echo(f"  not done: {one['what']}: {one['failure']}")


commands: tuple[click.Command, ...] = (repair,)
