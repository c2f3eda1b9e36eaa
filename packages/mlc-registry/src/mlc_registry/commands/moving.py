"""The commands that move a whole registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlc_hooks.console import json_option, print_json, say
from mlc_registry.commands.group import open_registry, root_option

if TYPE_CHECKING:
    from mlc_registry.records import Audited

__all__ = ["export_registry", "import_registry"]


@click.command("export")
@click.argument("path", metavar="FILE", type=click.Path())
@click.option("--replace", is_flag=True, help="Replace FILE, once the export is whole, if there is one.")
@root_option
@json_option
def export_registry(path: str, root: str, *, replace: bool, as_json: bool) -> None:
    """Write everything into one file, a tar.

    With all numbers, the history with its digests, and every published file. What does not fit is not exported.
    """
    with open_registry(root) as opened:
        _print(opened.archive.save(path, replace=replace), path, "exported to", as_json=as_json)


@click.command("import")
@click.argument("path", metavar="FILE", type=click.Path())
@root_option
@json_option
def import_registry(path: str, root: str, *, as_json: bool) -> None:
    """Fill an empty registry with an export.

    Every file is hashed and the history is verified; all of it is imported, or nothing. The registry is made if there
    is none, on any database.
    """
    with open_registry(root, create=True) as opened:
        _print(opened.archive.restore(path), path, "imported from", as_json=as_json)


def _print(found: Audited, path: str, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"path": path, "lines": found.lines, "versions": found.versions, "head": found.head})
    else:
        lines = f"{found.lines:,} lines of history"
        say(f"{found.versions:,} versions and {lines} {what} {path}; head {found.head}")
