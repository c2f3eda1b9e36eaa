"""The commands that look at the history as a whole."""

from __future__ import annotations

from contextlib import closing

import click

from mlc_hooks.console import json_option, print_json, print_table, say
from mlc_registry.catalogs import open_store
from mlc_registry.commands.group import root_option
from mlc_registry.history.audit import Audit
from mlc_registry.history.chain import line_facts

__all__ = ["audit"]


@click.group()
def audit() -> None:
    """Prove that nobody has changed the history."""


@audit.command()
@click.option("--head", metavar="DIGEST", help="A head that an earlier audit printed: nothing before it may be gone.")
@root_option
@json_option
def verify(head: str | None, root: str, *, as_json: bool) -> None:
    """Compute every digest anew and compare.

    The exit status is 1 if a line of history was edited, moved or taken out, or if a version, its files or a stage is
    not as the history says. Note the head somewhere else: with --head it proves later that the end is still there.
    """
    with closing(open_store(root, create=False)) as store:
        found = Audit(store).verify(expected_head=head)
    if as_json:
        print_json({"lines": found.lines, "versions": found.versions, "head": found.head})
    else:
        say(f"ok  {found.lines:,} lines  {found.versions:,} versions  head {found.head}")


@audit.command()
@click.option("--after", metavar="NUMBER", type=click.IntRange(min=0), default=0, help="Only lines behind this one.")
@root_option
@json_option
def log(after: int, root: str, *, as_json: bool) -> None:
    """Tell everything that happened, with the digests."""
    with closing(open_store(root, create=False)) as store:
        found = [line_facts(one) for one in Audit(store).lines(after=after)]
    if as_json:
        print_json(found)
        return
    columns = ("line", "when", "model", "what", "stage", "from", "to", "who", "why", "digest")
    rows = [
        (
            one["number"],
            one["at"][:19].replace("T", " "),
            one["model"],
            one["kind"],
            one["stage"],
            one["before"],
            one["after"],
            one["actor"],
            one["reason"],
            one["digest"][7:19],
        )
        for one in found
    ]
    print_table("History", columns, rows)
