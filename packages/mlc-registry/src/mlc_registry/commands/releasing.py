"""The commands for notes, tags, differences and changelogs."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import click

from mlc_hooks.console import human_size, json_option, print_json, print_table, say
from mlc_registry.commands.group import (
    actor_option,
    open_registry,
    read_pairs,
    reason_option,
    root_option,
    spec_argument,
)
from mlc_registry.commands.shown import time_shown
from mlc_registry.semver.references import parse_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_registry.records import Note
    from mlc_registry.releases.comparisons import Comparison

__all__ = ["changelog", "diff", "notes", "suggest", "tag", "untag"]


@click.group()
def notes() -> None:
    """Write the release notes of a version."""


@notes.command("write")
@spec_argument
@click.argument("file", type=click.File(encoding="utf-8"), default="-")
@actor_option
@root_option
@json_option
def write_notes(spec: str, file: IO[str], actor: str | None, root: str, *, as_json: bool) -> None:
    """Keep the Markdown in FILE, or on standard input.

    As in: mlc registry notes write brain-tissue@1.2.0 NOTES.md

    Editions before stay in the history, and the last one counts.
    """
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        kept = opened.releases.write_notes(name, str(reference), file.read(), actor=actor)
    if as_json:
        print_json(_note_facts(kept))
    else:
        say(f"the notes of {spec} are kept")


@notes.command("show")
@spec_argument
@click.option("--all", "every", is_flag=True, help="Every edition, the first one first.")
@root_option
@json_option
def show_notes(spec: str, root: str, *, every: bool, as_json: bool) -> None:
    """Print the release notes of a version."""
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        found = opened.releases.notes(name, str(reference))
    shown = found if every else found[-1:]
    if as_json:
        print_json([_note_facts(one) for one in shown])
        return
    for one in shown:
        if every:
            say(f"--- {time_shown(one.at)} by {one.actor}")
        say(one.text)


def _note_facts(note: Note) -> dict[str, Any]:
    return {"text": note.text, "actor": note.actor, "at": note.at.isoformat()}


@click.command()
@spec_argument
@click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)
@reason_option()
@actor_option
@root_option
@json_option
def tag(spec: str, pairs: tuple[str, ...], reason: str, actor: str | None, root: str, *, as_json: bool) -> None:
    """Set tags of a version, or list them.

    As in: mlc registry tag brain-tissue@1.2.0 team=vision reviewed=yes
    """
    name, reference = parse_reference(spec)
    given = read_pairs(pairs, "tag")
    with open_registry(root) as opened:
        if given:
            found = opened.releases.tag(name, str(reference), given, actor=actor, reason=reason)
        else:
            found = opened.releases.tags(name, str(reference))
    _print_tags(spec, found, as_json=as_json)


@click.command()
@spec_argument
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@reason_option()
@actor_option
@root_option
@json_option
def untag(spec: str, keys: tuple[str, ...], reason: str, actor: str | None, root: str, *, as_json: bool) -> None:
    """Take tags off a version.

    As in: mlc registry untag brain-tissue@1.2.0 reviewed
    """
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        found = opened.releases.untag(name, str(reference), *keys, actor=actor, reason=reason)
    _print_tags(spec, found, as_json=as_json)


def _print_tags(spec: str, found: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json(dict(found))
    else:
        print_table(f"Tags of {spec}", ("tag", "value"), list(found.items()))


@click.command()
@click.argument("name")
@click.argument("before")
@click.argument("after", default="latest")
@root_option
@json_option
def diff(name: str, before: str, after: str, root: str, *, as_json: bool) -> None:
    """Say how two versions differ.

    As in: mlc registry diff brain-tissue 1.2.0 production

    By tensors, class, configuration, dependencies, metrics and files. Only headers of files are read.
    """
    with open_registry(root) as opened:
        found = opened.releases.compare(name, before, after)
    if as_json:
        print_json(found.to_json())
    else:
        _print_comparison(found)


def _print_comparison(found: Comparison) -> None:
    say(f"{found.model} {found.before} -> {found.after}")
    say(f"size       {human_size(found.sizes[0])} -> {human_size(found.sizes[1])}")
    if found.schema is None:
        say(f"tensors    not compared: {found.unlisted}")
    else:
        say(f"tensors    {found.schema.summary}")
        if not found.schema.same:
            say(str(found.schema))
    if found.model_class[0] != found.model_class[1]:
        say(f"class      {found.model_class[0]} -> {found.model_class[1]}")
    pairs = (("Configuration", found.config), ("Dependencies", found.dependencies), ("Metrics", found.metrics))
    for title, differing in pairs:
        rows = [(name, before, after) for name, (before, after) in differing.items()]
        if rows:
            print_table(title, ("name", "before", "after"), rows)
    files = [(what, name) for what in ("added", "removed", "changed") for name in getattr(found, what)]
    if files:
        print_table("Files", ("what", "file"), files)


@click.command()
@click.argument("name")
@click.argument("path", type=click.Path())
@click.option(
    "--base", default="latest", show_default=True, help="What it takes the place of: a version, range or stage."
)
@root_option
@json_option
def suggest(name: str, path: str, base: str, root: str, *, as_json: bool) -> None:
    """Say which number a version deserves.

    As in: mlc registry suggest brain-tissue checkpoints/net/best

    PATH is held against the version that it takes the place of. Tensors that came, went or have another shape are
    major, another dtype is minor, other values are a patch.
    """
    with open_registry(root) as opened:
        found = opened.releases.suggest(name, path, base)
    if as_json:
        print_json(found.to_json())
        return
    say(found.version)
    for one in found.reasons:
        say(f"  {one.bump:6} {one.text}")


@click.command()
@click.argument("name")
@click.argument("since", required=False)
@click.argument("until", default="latest")
@click.option("--pre", "include_prereleases", is_flag=True, help="Tell of pre-releases too.")
@root_option
@json_option
def changelog(name: str, since: str | None, until: str, root: str, *, include_prereleases: bool, as_json: bool) -> None:
    """Tell what changed from version to version.

    As in: mlc registry changelog brain-tissue 1.0.0 production

    Behind SINCE, or from the start, up to UNTIL, as Markdown, the highest first.
    """
    with open_registry(root) as opened:
        found = opened.releases.changelog(name, since, until, include_prereleases=include_prereleases)
    if as_json:
        print_json(found.to_json())
    else:
        say(found.to_markdown(), nl=False)
