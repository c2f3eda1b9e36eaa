"""The command that removes what nobody needs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from mlc_hooks.console import human_size, json_option, print_json, print_table, say
from mlc_registry.commands.group import NumberRange, actor_option, open_registry, reason_option, root_option
from mlc_registry.commands.shown import time_shown
from mlc_registry.retention.reachability import RetentionRule

if TYPE_CHECKING:
    from mlc_registry.records import ModelVersion
    from mlc_registry.retention.reachability import Plan
    from mlc_registry.retention.room import Pruned

__all__ = ["plan_facts", "prune"]

DEFAULT = RetentionRule()


@click.command()
@click.option(
    "--keep-releases",
    metavar="COUNT",
    type=click.IntRange(min=0),
    default=DEFAULT.keep_releases,
    show_default=True,
    help="How many releases of each major version stay.",
)
@click.option(
    "--keep-prereleases",
    metavar="COUNT",
    type=click.IntRange(min=0),
    default=DEFAULT.keep_prereleases,
    show_default=True,
    help="How many pre-releases of each model stay.",
)
@click.option(
    "--min-age",
    metavar="DAYS",
    type=NumberRange(min=0, max=100_000),
    default=DEFAULT.min_age.days,
    show_default=True,
    help="What is younger stays.",
)
@click.option(
    "--parents/--no-parents",
    "keep_parents",
    default=DEFAULT.keep_parents,
    show_default=True,
    help="Whether what a version that stays was made from stays, too.",
)
@click.option("--keep-tag", metavar="KEY", default=DEFAULT.keep_tag, show_default=True, help="What is tagged so stays.")
@click.option(
    "--lock",
    "locks",
    metavar="FILE",
    type=click.Path(),
    multiple=True,
    help="What this lock file pins stays. Repeat for more.",
)
@click.option("--apply", is_flag=True, help="Do it. Without this, nothing is changed.")
@reason_option("Why, for the history.")
@actor_option
@root_option
@json_option
def prune(
    keep_releases: int,
    keep_prereleases: int,
    min_age: float,
    keep_tag: str,
    locks: tuple[str, ...],
    reason: str,
    actor: str | None,
    root: str,
    *,
    keep_parents: bool,
    apply: bool,
    as_json: bool,
) -> None:
    """Remove the files of versions that nobody needs any more.

    As in: mlc registry prune --keep-releases 2 --lock mlc.lock

    Shows what would go, and every reason for which each other version stays; --apply does it. Whatever the options,
    these stay: what a stage points to or would be rolled back to, latest and newest of each model, what others that
    stay depend on, and what is locked or tagged. Numbers, digests and history stay of all.
    """
    rule = RetentionRule(
        keep_releases=keep_releases,
        keep_prereleases=keep_prereleases,
        min_age=timedelta(days=min_age),
        keep_parents=keep_parents,
        keep_tag=keep_tag,
    )
    with open_registry(root) as opened:
        plan = opened.retention.plan(rule, locks=locks)
        done = opened.retention.apply(plan, actor=actor, reason=reason) if apply else None
    if as_json:
        print_json(plan_facts(plan, done))
        return
    if plan.kept:
        rows: list[tuple[object, ...]] = [
            (one.published.model, one.published.version, "; ".join(one.reasons)) for one in plan.kept
        ]
        print_table("Stays", ("model", "version", "why"), rows)
    gone = (*plan.removed, *plan.unfinished) if done is None else done.removed
    if gone:
        rows = [(one.model, one.version, human_size(one.size), time_shown(one.created_at)) for one in gone]
        title = "Would be removed" if done is None else "Removed"
        print_table(title, ("model", "version", "size", "published"), rows)
    if done is None:
        say(_count(len(gone), plan.size, "would be removed") + ("; say --apply to do it" if gone else ""))
        return
    for one, why in done.spared:
        say(f"Note: {one.model} {one.version} stays: {why}", err=True)
    for one, why in done.left:
        say(f"Warning: {one.model} {one.version} is marked as removed, but {why}; prune again", err=True)
    say(_count(len(gone), done.size, "removed"))


def plan_facts(plan: Plan, done: Pruned | None) -> dict[str, Any]:
    """Return a plan, and what was done of it, as plain data."""
    return {
        "removed": [_facts(one) for one in plan.removed],
        "unfinished": [_facts(one) for one in plan.unfinished],
        "kept": [{**_facts(one.published), "reasons": list(one.reasons)} for one in plan.kept],
        "size": plan.size,
        "applied": None
        if done is None
        else {
            "removed": [_facts(one) for one in done.removed],
            "left": [{**_facts(one), "reason": why} for one, why in done.left],
            "spared": [{**_facts(one), "reason": why} for one, why in done.spared],
            "size": done.size,
        },
    }


def _facts(one: ModelVersion) -> dict[str, Any]:
    return {"model": one.model, "version": str(one.version), "digest": one.digest, "size": one.size}


def _count(count: int, size: int, what: str) -> str:
    return f"{count:,} version{'' if count == 1 else 's'} {what}, {human_size(size)}"
