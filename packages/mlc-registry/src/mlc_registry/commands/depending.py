"""The commands for models that need other models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlc_hooks.console import json_option, print_json, print_table, say
from mlc_registry.commands.group import open_registry, pre_option, root_option, spec_argument
from mlc_registry.semver.references import parse_reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlc_registry.dependencies.locks import Lock
    from mlc_registry.dependencies.room import Branch

__all__ = ["branch_facts", "dependencies", "dependents", "lock", "lock_facts"]


@click.command()
@click.argument("specs", metavar="[NAME[@REFERENCE]]...", nargs=-1)
@click.option("--output", "path", type=click.Path(), default="mlc.lock", show_default=True, help="The lock file.")
@click.option("--check", is_flag=True, help="Only see whether everything that is locked is still there as it was.")
@click.option("--update", is_flag=True, help="Choose anew for the models that are named, or for all.")
@pre_option
@root_option
@json_option
def lock(
    specs: tuple[str, ...],
    path: str,
    root: str,
    *,
    check: bool,
    update: bool,
    include_prereleases: bool,
    as_json: bool,
) -> None:
    """Choose versions that work together, and keep them.

    As in: mlc registry lock app@^2 decoder@^1

    The file has the digest of each version, so that everybody who loads by it gets the same files. With --check the
    exit status is 1 if anything in it was removed or changed. With --update the versions that are not named stay where
    possible, as in: mlc registry lock --update decoder
    """
    if check and (update or specs):
        msg = "--check reads the lock file as it is; leave out the names and --update"
        raise click.UsageError(msg)
    if not specs and not (check or update):
        msg = "name what is to be locked, as in app@^2; or say --check or --update"
        raise click.UsageError(msg)
    if update and include_prereleases:
        msg = "the lock file says whether pre-releases are found; leave out --pre"
        raise click.UsageError(msg)
    with open_registry(root) as opened:
        if check:
            found = opened.dependencies.check_lock(path)
        elif update:
            found = opened.dependencies.update(path, specs or None)
        else:
            found = opened.dependencies.lock(specs, path, include_prereleases=include_prereleases)
    if as_json:
        print_json(lock_facts(found))
        return
    rows = [(name, one.version, one.digest[:19], _needed_by(one.required)) for name, one in found.models.items()]
    print_table(f"{'Checked' if check else 'Locked'} in {path}", ("model", "version", "digest", "needed by"), rows)


@click.command()
@spec_argument
@pre_option
@root_option
@json_option
def dependencies(spec: str, root: str, *, include_prereleases: bool, as_json: bool) -> None:
    """Show what a version depends on, as a tree.

    As in: mlc registry dependencies app@2.1.0

    Each model is shown at the one version that suits everybody in the tree, with the range that it was asked for with.
    """
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        found = opened.dependencies.tree(name, str(reference), include_prereleases=include_prereleases)
    if as_json:
        print_json(branch_facts(found))
    else:
        say("\n".join(_draw(found)))


@click.command()
@click.argument("spec", metavar="NAME[@REFERENCE]")
@root_option
@json_option
def dependents(spec: str, root: str, *, as_json: bool) -> None:
    """List the versions that depend on a model.

    As in: mlc registry dependents encoder@1.2.0, which lists only those whose range has 1.2.0 in it.
    """
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        found = opened.dependencies.dependents(name, str(reference) if "@" in spec else None)
    rows = [(one.model, str(one.version), one.dependencies[name], "yanked" if one.yanked else "") for one in found]
    if as_json:
        print_json([{"model": model, "version": version, "range": text} for model, version, text, _ in rows])
    else:
        print_table(f"What depends on {spec}", ("model", "version", "range", ""), rows)


def lock_facts(found: Lock) -> dict[str, Any]:
    """Return what a lock file says as plain data."""
    return {
        "registry": found.registry,
        "requirements": found.requirements,
        "include_prereleases": found.include_prereleases,
        "models": {
            name: {"version": str(one.version), "digest": one.digest, "required": one.required}
            for name, one in found.models.items()
        },
    }


def branch_facts(branch: Branch) -> dict[str, Any]:
    """Return a tree of dependencies as plain data."""
    return {
        "model": branch.model,
        "version": str(branch.version),
        "reference": branch.reference,
        "circular": branch.circular,
        "dependencies": [branch_facts(one) for one in branch.branches],
    }


def _draw(branch: Branch, before: str = "") -> Iterator[str]:
    if not before:
        yield f"{branch.model} {branch.version}"
    for one in branch.branches:
        last = one is branch.branches[-1]
        again = ", which is above" if one.circular else ""
        yield f"{before}{'└── ' if last else '├── '}{one.model} {one.version} ({one.reference}{again})"
        yield from list(_draw(one, f"{before}{'    ' if last else '│   '}"))


def _needed_by(required: Mapping[str, str]) -> str:
    return "; ".join(f"{by or 'asked for'}: {text}" for by, text in required.items())
