"""The commands that publish, promote and yank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlc_hooks.console import json_option, print_json
from mlc_registry.commands.group import (
    actor_option,
    open_registry,
    read_metadata,
    read_version,
    root_option,
    spec_argument,
)
from mlc_registry.commands.shown import stage_facts, version_facts
from mlc_registry.references import parse_reference

if TYPE_CHECKING:
    from mlc_registry.artifacts import Transfer
    from mlc_registry.records import Stage

__all__ = ["promote", "register", "rollback", "unyank", "yank"]


@click.command()
@click.argument("name")
@click.argument("version")
@click.argument("path", type=click.Path())
@click.option(
    "--meta",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="Keep this with the version; VALUE may be JSON, as in metrics='{\"dice\": 0.91}'. Repeat for more.",
)
@click.option("--description", default="", help="What people should know about this version.")
@click.option(
    "--transfer",
    type=click.Choice(["auto", "copy", "link"]),
    default="auto",
    show_default=True,
    help="Copy the files, or share them with their origin, to which nobody may write again; auto shares checkpoints.",
)
@actor_option
@root_option
@json_option
def register(
    name: str,
    version: str,
    path: str,
    pairs: tuple[str, ...],
    description: str,
    transfer: Transfer,
    actor: str | None,
    root: str,
    *,
    as_json: bool,
) -> None:
    """Publish a file or directory as a version.

    PATH is kept as VERSION of the model NAME for ever; a link as PATH is followed. The registry is made if there is
    none. Publishing the same files again changes nothing and succeeds.
    """
    metadata = read_metadata(pairs) or None
    with open_registry(root, create=True) as opened:
        published = opened.register_model(
            name, version, path, metadata, description=description, actor=actor, transfer=transfer
        )
        place = opened.resolve(name, published.version).path
    if as_json:
        print_json({**version_facts(published, ()), "path": str(place)})
    else:
        click.echo(f"{published.model} {published.version} is published: {place}")


@click.command()
@spec_argument
@click.argument("stage")
@click.option("--reason", default="", help="Why.")
@click.option("--expected", metavar="VERSION", help="Only if the stage points to this version, or to none: unset.")
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
    as_json: bool,
) -> None:
    """Point a stage to a version.

    As in: mlc registry promote brain-tissue@1.2.0 production --reason "better on the external set"
    """
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        moved = opened.promote(name, str(reference), stage, reason=reason, actor=actor, expected=expected)
    _print_stage(moved, as_json=as_json)


@click.command()
@click.argument("name")
@click.argument("stage")
@click.option("--reason", default="", help="Why.")
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
@click.argument("spec", metavar="NAME@VERSION")
@click.option("--reason", required=True, help="Why nobody should find it any more.")
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
    click.echo(f"{published.model} {published.version} is yanked: {published.yank_reason}")
    for one in stages:
        click.echo(f"Note: stage {one.name} still points to it; promote another version, or roll it back", err=True)


@click.command()
@click.argument("spec", metavar="NAME@VERSION")
@click.option("--reason", default="", help="Why.")
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
        click.echo(f"{published.model} {published.version} can be found again")


def _print_stage(moved: Stage, *, as_json: bool) -> None:
    if as_json:
        print_json(stage_facts(moved))
    else:
        click.echo(f"{moved.name} of {moved.model} is {moved.version} now")
