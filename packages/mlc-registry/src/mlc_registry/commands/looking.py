"""The commands that change nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

import click

from mlc_hooks.console import human_size, json_option, print_json, print_table, say
from mlc_registry.commands.group import limit_option, open_registry, pre_option, root_option, spec_argument
from mlc_registry.commands.shown import (
    change_facts,
    model_facts,
    resolved_facts,
    time_shown,
    version_facts,
    version_text,
)
from mlc_registry.history.addresses import hide_secrets
from mlc_registry.semver.references import parse_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlc_registry.registry import ModelRegistry

Item = TypeVar("Item")

__all__ = ["history", "list_registry", "resolve", "show", "verify"]


@click.command("ls")
@click.argument("name", required=False)
@limit_option("models or versions")
@click.option("--after", metavar="NAME|VERSION", help="Those behind this one, which the page before ended with.")
@root_option
@json_option
def list_registry(name: str | None, limit: int, after: str | None, root: str, *, as_json: bool) -> None:
    """List the models, or the versions of one, the highest first.

    If there are more than --limit, a line on standard error says how to ask for those that follow.
    """
    with open_registry(root) as opened:
        if name is None:
            _list_models(opened, root, limit, after, as_json=as_json)
        else:
            _list_versions(opened, name, limit, after, as_json=as_json)


def _list_models(opened: ModelRegistry, root: str, limit: int, after: str | None, *, as_json: bool) -> None:
    listed = opened.list_models(limit=limit + 1, after=after)
    found = [model_facts(one, opened.stages(one.name)) for one in listed[:limit]]
    _tell_more(listed, limit, lambda last: last.name)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["name"],
            one["latest"],
            one["newest"],
            one["versions"],
            ", ".join(f"{stage} {version}" for stage, version in one["stages"].items()),
        )
        for one in found
    ]
    print_table(f"Models in {hide_secrets(root)}", ("model", "latest", "newest", "versions", "stages"), rows)


def _list_versions(opened: ModelRegistry, name: str, limit: int, after: str | None, *, as_json: bool) -> None:
    stages = opened.stages(name)
    listed = opened.list_versions(name, limit=limit + 1, below=after)
    found = listed[:limit]
    _tell_more(listed, limit, lambda last: last.version)
    if as_json:
        print_json([version_facts(one, stages) for one in found])
        return
    rows = [
        (
            one.version,
            ", ".join(stage.name for stage in stages if stage.version == one.version),
            human_size(one.size),
            time_shown(one.created_at),
            one.created_by,
            f"yanked: {one.yank_reason}" if one.yanked else one.description,
        )
        for one in found
    ]
    print_table(f"Versions of {name}", ("version", "stages", "size", "published", "by", "about"), rows)


@click.command()
@spec_argument
@pre_option
@root_option
@json_option
def show(spec: str, root: str, *, include_prereleases: bool, as_json: bool) -> None:
    """Show everything that is known about one version."""
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        found = opened.resolve(name, str(reference), include_prereleases=include_prereleases)
        facts = version_facts(opened.get(name, found.version), opened.stages(name))
        files = opened.list_files(name, found.version)
    if as_json:
        listed = [{"path": one.path, "size": one.size, "digest": one.digest} for one in files]
        print_json({**facts, "path": str(found.path), "files": listed})
        return
    say(version_text(facts, found.path))
    print_table("Files", ("file", "bytes", "digest"), [(one.path, f"{one.size:,}", one.digest) for one in files])
    if facts["metadata"]:
        rows = [
            (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for key, value in facts["metadata"].items()
        ]
        print_table("Metadata", ("name", "value"), rows)


@click.command()
@spec_argument
@click.option(
    "--path", "only_path", is_flag=True, help="Print the path of the files, which are brought if need be, and no more."
)
@pre_option
@root_option
@json_option
def resolve(spec: str, root: str, *, only_path: bool, include_prereleases: bool, as_json: bool) -> None:
    """Say which version is meant, and where it is."""
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        if only_path:
            path = opened.get_model_path(name, str(reference), include_prereleases=include_prereleases)
            if as_json:
                print_json({"path": str(path)})
            else:
                click.echo(path)
            return
        found = opened.resolve(name, str(reference), include_prereleases=include_prereleases)
    if as_json:
        print_json(resolved_facts(found))
    else:
        for label, value in resolved_facts(found).items():
            if value:
                say(f"{label:10} {value}")


@click.command()
@click.argument("name")
@click.option("--stage", help="Only what happened to this stage.")
@limit_option("lines")
@click.option("--after", metavar="NUMBER", type=click.IntRange(min=0), default=0, help="Only lines behind this one.")
@root_option
@json_option
def history(name: str, stage: str | None, limit: int, after: int, root: str, *, as_json: bool) -> None:
    """Tell what happened to a model, when and why.

    The oldest comes first. If there are more lines than --limit, a line on standard error says how to ask for those
    that follow.
    """
    with open_registry(root) as opened:
        listed = opened.history(name, stage=stage, limit=limit + 1, after=after)
    found = listed[:limit]
    _tell_more(listed, limit, lambda last: last.number)
    if as_json:
        print_json([change_facts(one) for one in found])
        return
    rows = [
        (
            one.number,
            time_shown(one.at),
            one.kind,
            one.stage,
            one.before,
            None if one.kind == "demoted" else one.after,
            one.actor,
            one.reason,
        )
        for one in found
    ]
    print_table(f"History of {name}", ("line", "when", "what", "stage", "from", "to", "who", "why"), rows)


def _tell_more(listed: Sequence[Item], limit: int, name: Callable[[Item], object]) -> None:
    if len(listed) > limit:
        say(f"There are more: --after {name(listed[limit - 1])}", err=True)


@click.command()
@spec_argument
@click.option("--public-key", metavar="FILE", type=click.Path(), help="It must be signed with this key, in PEM.")
@pre_option
@root_option
@json_option
def verify(spec: str, public_key: str | None, root: str, *, include_prereleases: bool, as_json: bool) -> None:
    """Hash the files of a version and compare.

    The exit status is 1 if any is missing, changed, or was never published; with --public-key also if no signature over
    these files was made with the key that belongs to it.
    """
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        found = opened.verify(name, str(reference), include_prereleases=include_prereleases)
        signed = None if public_key is None else opened.signing.verify(name, found.version, public_key=public_key)
    by = {} if signed is None else {"signed_by": signed.actor, "signed_at": signed.at.isoformat()}
    if as_json:
        print_json({**resolved_facts(found), **by})
    else:
        said = "" if signed is None else f"  signed, as {signed.actor} kept it at {time_shown(signed.at)}"
        say(f"ok  {found.model} {found.version}  {found.digest}{said}")
