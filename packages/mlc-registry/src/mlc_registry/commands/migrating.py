"""The commands that turn the files of one major version into those of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlc_hooks.console import json_option, print_json, print_table, say
from mlc_registry.commands.group import actor_option, open_registry, read_version, root_option
from mlc_registry.commands.shown import version_facts
from mlc_registry.migrations.room import find_steps, list_steps
from mlc_registry.migrations.scripts import migrate as run_migration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_registry.migrations.room import Step
    from mlc_registry.migrations.scripts import Migrated

__all__ = ["migrate"]

scripts_option = click.option(
    "--scripts",
    metavar="DIR",
    multiple=True,
    help="A directory with scripts such as NAME/1_to_2.py, beside those in MLC_MIGRATIONS and of plugins.",
)


@click.group()
def migrate() -> None:
    """Bring files to another major version.

    A migration is a script NAME/1_to_2.py with a function migrate(source, target), which reads the files of 1 and
    writes those of 2 into an empty directory. It never comes from the registry.
    """


@migrate.command("steps")
@click.argument("name")
@click.argument("before", type=int, required=False)
@click.argument("after", type=int, required=False)
@scripts_option
@json_option
def list_migrations(
    name: str, before: int | None, after: int | None, scripts: tuple[str, ...], *, as_json: bool
) -> None:
    """List the steps, or those from BEFORE to AFTER.

    As in: mlc registry migrate steps brain-tissue 1 3
    """
    if before is not None and after is None:
        msg = f"say up to which major version, too, as in: {name} {before} {before + 1}"
        raise click.UsageError(msg)
    found = list_steps(name, scripts) if before is None or after is None else find_steps(name, before, after, scripts)
    if as_json:
        print_json([_step_facts(one) for one in found])
    else:
        _print_steps(name, found)


@migrate.command("run")
@click.argument("name")
@click.argument("path", type=click.Path())
@click.option("--from", "before", metavar="VERSION", required=True, help="The version that PATH is.")
@click.option("--to", "after", metavar="VERSION", required=True, help="The version that it shall become.")
@click.option("--output", metavar="PATH", type=click.Path(), help="Write the result here, and leave PATH alone.")
@click.option("--dry-run", is_flag=True, help="Run all steps, say what would change, and change nothing.")
@scripts_option
@json_option
def migrate_files(
    name: str,
    path: str,
    before: str,
    after: str,
    output: str | None,
    scripts: tuple[str, ...],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Migrate the file or directory PATH in place.

    As in: mlc registry migrate run brain-tissue weights --from 1.4.0 --to 2.0.0 --dry-run

    What was there is kept beside it, as PATH.backup-VERSION.
    """
    found = run_migration(path, name, before, after, scripts=scripts, output=output, dry_run=dry_run)
    if as_json:
        print_json(found.to_json())
    else:
        _print_migrated(found)


@migrate.command("publish")
@click.argument("spec", metavar="NAME@REFERENCE")
@click.argument("version")
@click.option("--description", default="", help="What people should know about this version.")
@scripts_option
@actor_option
@root_option
@json_option
def publish_migrated(
    spec: str,
    version: str,
    description: str,
    scripts: tuple[str, ...],
    actor: str | None,
    root: str,
    *,
    as_json: bool,
) -> None:
    """Migrate a published version and publish that.

    As in: mlc registry migrate publish brain-tissue@1.4.0 2.0.0 --scripts migrations
    """
    name, reference = read_version(spec)
    with open_registry(root) as opened:
        published = opened.migrations.publish(
            name, reference, version, scripts=scripts, description=description, actor=actor
        )
    if as_json:
        print_json(version_facts(published, ()))
    else:
        say(f"{published.model} {published.version} is published, migrated from {reference}")


def _step_facts(step: Step) -> dict[str, Any]:
    return {
        "step": step.name,
        "before": step.before,
        "after": step.after,
        "path": str(step.path),
        "description": step.description,
        "digest": step.digest,
    }


def _print_steps(name: str, found: Sequence[Step]) -> None:
    rows = [(one.name, one.description, one.path) for one in found]
    print_table(f"Migrations of {name}", ("step", "about", "script"), rows)


def _print_migrated(found: Migrated) -> None:
    _print_steps(found.model, found.steps)
    if found.schema is not None:
        say(f"tensors: {found.schema.summary}")
        if not found.schema.same:
            say(str(found.schema))
    if found.path is None:
        say("nothing was changed: this was a dry run")
    else:
        say(f"{found.path} is {found.model} {found.after} now")
    if found.backup is not None:
        say(f"what it was is kept: {found.backup}")
