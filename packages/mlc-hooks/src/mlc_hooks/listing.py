"""`mlc plugins`: who takes part, and who was set aside."""

from __future__ import annotations

import click

from mlc_hooks.console import json_option, print_json, print_table
from mlc_hooks.plugins import shared

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
    here = found.list_plugins()
    for hook in sorted({hook for plugin in here for hook in plugin.hooks if found.is_offer(hook)}):
        found.offers(hook)  # a plugin can also break while it makes an offer
    here, broken = found.list_plugins(), found.broken
    if as_json:
        print_json(
            {
                "plugins": [
                    {
                        "name": one.name,
                        "distribution": one.distribution,
                        "hooks": one.hooks,
                        "unknown_hooks": one.unknown_hooks,
                        "offers": {
                            hook: [offer.name for offer in found.offers(hook, home=one.name)]
                            for hook in one.hooks
                            if found.is_offer(hook)
                        },
                    }
                    for one in here
                ],
                "broken": [
                    {"name": one.name, "distribution": one.distribution, "reason": one.reason} for one in broken
                ],
            }
        )
    else:
        rows = []
        for one in here:
            for hook in one.hooks or ("",):
                names = (
                    ", ".join(offer.name for offer in found.offers(hook, home=one.name)) if found.is_offer(hook) else ""
                )
                first = hook == (one.hooks or ("",))[0]
                rows.append((one.name if first else "", one.distribution if first else "", hook, names))
            rows += [("", "", f"{hook} (unknown)", "") for hook in one.unknown_hooks]
        print_table("Plugins", ("plugin", "distribution", "hook", "offers"), rows)
        if broken:
            print_table(
                "Set aside", ("plugin", "distribution", "reason"), [(b.name, b.distribution, b.reason) for b in broken]
            )
    if broken:
        raise SystemExit(1)
