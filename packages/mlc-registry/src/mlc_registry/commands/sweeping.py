"""The command that clears away what killed publishers have left."""

from __future__ import annotations

from datetime import timedelta

import attrs
import click

from mlc_hooks.console import human_size, json_option, print_json, print_table, say
from mlc_registry.commands.group import NumberRange, open_registry, root_option

__all__ = ["sweep"]


@click.command()
@click.option("--apply", is_flag=True, help="Remove it; without this, only look.")
@click.option(
    "--older-than",
    "hours",
    type=NumberRange(min=0, max=1_000_000),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Leave what was touched more recently.",
)
@root_option
@json_option
def sweep(hours: float, root: str, *, apply: bool, as_json: bool) -> None:
    """Find files that killed publishers have left.

    What a living publisher is working on is never touched, and neither is a published file. As in:

    mlc registry sweep --apply
    """
    with open_registry(root) as opened:
        url = opened.artifacts.url
        found = opened.artifacts.sweep(older_than=timedelta(hours=hours), dry_run=not apply)
    if as_json:
        print_json([attrs.asdict(one) for one in found])
        return
    print_table(
        f"{'Swept from' if apply else 'Left over in'} {url}",
        ("what", "size", "where"),
        [(one.kind, human_size(one.size), one.place) for one in found],
    )
    if found and not apply:
        say("Nothing was removed; --apply removes it.", err=True)
