"""The commands that promote and yank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlc_hooks.console import json_option, print_json, say
from mlc_registry.commands.group import (
    actor_option,
    open_registry,
    read_version,
    reason_option,
    root_option,
    spec_argument,
)
from mlc_registry.commands.shown import stage_facts, version_facts
from mlc_registry.semver.references import parse_reference

if TYPE_CHECKING:
    from mlc_registry.records import Stage

__all__ = ["demote", "promote", "rollback", "unyank", "yank"]


@click.command()
@spec_argument
@click.argument("stage")
@reason_option()
@click.option("--expected", metavar="VERSION", help="Only if the stage points to this version, or to none: unset.")
@click.option("--force", is_flag=True, help="Whatever the policy says. Needs --reason, and stays in the history.")
@actor_option
@root_option
@json_option
def promote(
    spec: str,
    stage: str,
    reason: str,
    expected: str | None,
    actor: str | None,
    root: str,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Point a stage to a version, if the policy allows it.

    As in: mlc registry promote brain-tissue@1.2.0 production --reason "better on the external set"
    """
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        moved = opened.promote(name, str(reference), stage, reason=reason, actor=actor, expected=expected, force=force)
    _print_stage(moved, as_json=as_json)


@click.command()
@click.argument("name")
@click.argument("stage")
@reason_option()
@actor_option
@root_option
@json_option
def rollback(name: str, stage: str, reason: str, actor: str | None, root: str, *, as_json: bool) -> None:
    """Point a stage back to the version before.

    Once more goes back one more.
    """
    with open_registry(root) as opened:
        moved = opened.rollback(name, stage, reason=reason, actor=actor)
    _print_stage(moved, as_json=as_json)


@click.command()
@click.argument("name")
@click.argument("stage")
@reason_option()
@click.option("--expected", metavar="VERSION", help="Only if the stage points to this version.")
@actor_option
@root_option
@json_option
def demote(
    name: str, stage: str, reason: str, expected: str | None, actor: str | None, root: str, *, as_json: bool
) -> None:
    """Let a stage point to nothing any more.

    The history keeps what it was; there is no way back but to promote again. As in:

    mlc registry demote brain-tissue staging --reason "the trial is over"
    """
    with open_registry(root) as opened:
        was = opened.demote(name, stage, reason=reason, actor=actor, expected=expected)
    if as_json:
        print_json(stage_facts(was))
    else:
        say(f"{was.name} of {was.model} points to nothing now; it was {was.version}")


@click.command()
@click.argument("spec", metavar="NAME@VERSION")
@reason_option("Why nobody should find it any more.", required=True)
@actor_option
@root_option
@json_option
def yank(spec: str, reason: str, actor: str | None, root: str, *, as_json: bool) -> None:
    """Let nobody find a version any more.

    Ranges, latest and newest pass it over. Whoever asks for it exactly, or for a stage that points to it, still gets
    it.
    """
    name, version = read_version(spec)
    with open_registry(root) as opened:
        published = opened.yank(name, version, reason, actor=actor)
        stages = [one for one in opened.stages(name) if one.version == published.version]
    if as_json:
        print_json(version_facts(published, stages))
        return
    say(f"{published.model} {published.version} is yanked: {published.yank_reason}")
    for one in stages:
        say(f"Note: stage {one.name} still points to it; promote another version, or roll it back", err=True)


@click.command()
@click.argument("spec", metavar="NAME@VERSION")
@reason_option()
@actor_option
@root_option
@json_option
def unyank(spec: str, reason: str, actor: str | None, root: str, *, as_json: bool) -> None:
    """Let a yanked version be found again."""
    name, version = read_version(spec)
    with open_registry(root) as opened:
        published = opened.unyank(name, version, reason, actor=actor)
        stages = opened.stages(name)
    if as_json:
        print_json(version_facts(published, stages))
    else:
        say(f"{published.model} {published.version} can be found again")


def _print_stage(moved: Stage, *, as_json: bool) -> None:
    if as_json:
        print_json(stage_facts(moved))
    else:
        say(f"{moved.name} of {moved.model} is {moved.version} now")
