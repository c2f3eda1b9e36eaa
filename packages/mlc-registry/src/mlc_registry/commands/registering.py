"""The command that publishes."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import click

from mlc_hooks.console import json_option, print_json, say
from mlc_registry.commands.group import (
    actor_option,
    note_warnings,
    open_registry,
    read_metadata,
    read_pairs,
    root_option,
)
from mlc_registry.commands.shown import version_facts
from mlc_registry.construction.classes import describe_class
from mlc_registry.records import Tracking
from mlc_registry.releases.provenance import git_commit

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlc_registry.artifacts.local import Transfer
    from mlc_registry.records import Architecture

__all__ = ["register"]


def _facts_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for what is said about a version."""
    options = (
        click.option("--run", default="", help="The training run, by its id or address."),
        click.option("--dataset", default="", help="The data that it was trained on, by name and version."),
        click.option("--commit", default="", help="The commit of the training code; auto asks git, in this directory."),
        click.option(
            "--metric", "metrics", metavar="NAME=NUMBER", multiple=True, help="As dice=0.91. Repeat for more."
        ),
        click.option("--param", "parameters", metavar="NAME=VALUE", multiple=True, help="As lr=3e-4. Repeat for more."),
        click.option("--parent", metavar="NAME@REFERENCE", help="The version that it was made from."),
        click.option("--depends", metavar="NAME=RANGE", multiple=True, help="Another model that it works with."),
        click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, help="A tag. Repeat for more."),
        click.option("--notes", type=click.File(encoding="utf-8"), metavar="FILE", help="Release notes; - reads them."),
        click.option("--class", "model_class", metavar="MODULE:CLASS", help="The class that the weights belong to."),
        click.option(
            "--config", metavar="NAME=VALUE", multiple=True, help="What the class is called with, as width=32."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


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
@_facts_options
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
    notes: IO[str] | None,
    parent: str | None,
    depends: tuple[str, ...],
    tags: tuple[str, ...],
    transfer: Transfer,
    actor: str | None,
    root: str,
    *,
    as_json: bool,
    **facts: Any,
) -> None:
    """Publish a file or directory as a version.

    PATH is kept as VERSION of the model NAME for ever; a link as PATH is followed. The registry is made if there is
    none. Publishing the same files again changes nothing and succeeds.

    As in: mlc registry register brain-tissue 1.2.0 checkpoints/net/best --dataset brats@2.1 --metric dice=0.91
    --commit auto

    Of a checkpoint, the run, the epoch, the step and the metrics are known already.
    """
    said: dict[str, Any] = {
        "description": description,
        "tracking": _read_tracking(facts),
        "architecture": _read_architecture(facts),
        "dependencies": read_pairs(depends, "--depends") or None,
        "parent": parent,
        "tags": read_pairs(tags, "--tag") or None,
        "notes": "" if notes is None else notes.read(),
    }
    with open_registry(root, create=True) as opened:
        published = opened.register_model(
            name, version, path, read_metadata(pairs) or None, **said, actor=actor, transfer=transfer
        )
        found, place = opened.resolve(name, published.version), opened.artifacts.locate(published)
    if as_json:
        print_json({**version_facts(published, ()), "path": str(found.path)})
    else:
        say(f"{published.model} {published.version} is published: {place}")


def _read_tracking(facts: dict[str, Any]) -> Tracking | None:
    metrics = read_metadata(facts["metrics"], "--metric")
    for key, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            msg = f"--metric {key}={value} is no number"
            raise click.UsageError(msg)
    found = Tracking(
        run=facts["run"],
        dataset=facts["dataset"],
        commit=git_commit() if facts["commit"] == "auto" else facts["commit"],
        metrics=metrics,
        parameters=read_metadata(facts["parameters"], "--param"),
    )
    return None if found == Tracking() else found


def _read_architecture(facts: dict[str, Any]) -> Architecture | None:
    config = read_metadata(facts["config"], "--config")
    if facts["model_class"] is None:
        if config:
            msg = "--config says what a class is called with; say which, with --class package.module:Class"
            raise click.UsageError(msg)
        return None
    with note_warnings():
        return describe_class(facts["model_class"], config)
