"""`mlc plugins`: who takes part, and who was set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlc_hooks.console import json_option, print_json, print_table
from mlc_hooks.plugins import shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_hooks.plugins import Plugins
    from mlc_hooks.records import Plugin

__all__ = ["plugins"]


@click.command()
@json_option
def plugins(*, as_json: bool) -> None:
    """List the plugins that are installed, and those that are broken.

    A plugin that cannot be imported or does not fit is set aside and shown here with the reason; the exit status is
    then 1. MLC_PLUGINS chooses: unset is all, empty is none, "a,b" is only those, "-a" is all but. With
    MLC_PLUGINS_STRICT=1 a broken plugin stops the program instead.
    """
    found = shared()
    for hook in {hook for plugin in found.list_plugins() for hook in plugin.hooks if found.is_offer(hook)}:
        found.offers(hook)  # a plugin can also break while it makes an offer
    here = [(one, _list_offers(found, one)) for one in found.list_plugins()]
    if as_json:
        _print_for_programs(found, here)
    else:
        _print_for_people(found, here)
    if found.broken:
        raise SystemExit(1)


def _list_offers(found: Plugins, plugin: Plugin) -> dict[str, list[str]]:
    return {
        hook: [offer.name for offer in found.offers(hook, home=plugin.name)]
        for hook in plugin.hooks
        if found.is_offer(hook)
    }


def _print_for_programs(found: Plugins, here: Sequence[tuple[Plugin, dict[str, list[str]]]]) -> None:
    print_json(
        {
            "plugins": [
                {
                    "name": one.name,
                    "distribution": one.distribution,
                    "hooks": one.hooks,
                    "unknown_hooks": one.unknown_hooks,
                    "offers": offers,
                }
                for one, offers in here
            ],
            "broken": [
                {"name": one.name, "distribution": one.distribution, "reason": one.reason} for one in found.broken
            ],
            "left_out": found.left_out,
        }
    )


def _print_for_people(found: Plugins, here: Sequence[tuple[Plugin, dict[str, list[str]]]]) -> None:
    rows = []
    for one, offers in here:
        lines = [(hook, ", ".join(offers.get(hook, ()))) for hook in one.hooks]
        lines += [(f"{hook} (unknown)", "") for hook in one.unknown_hooks]
        first, *others = lines or [("", "")]
        rows.append((one.name, one.distribution, *first))
        rows += [("", "", *line) for line in others]
    print_table("Plugins", ("plugin", "distribution", "hook", "offers"), rows)
    if found.broken:
        set_aside = [(one.name, one.distribution, one.reason) for one in found.broken]
        print_table("Set aside", ("plugin", "distribution", "reason"), set_aside)
    if found.left_out:
        print_table("Left out by MLC_PLUGINS", ("plugin",), [(name,) for name in found.left_out])
