"""What the front door offers, through the same door as everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks.markers import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import click

__all__ = ["mlc_commands", "plugins_command"]


@hookimpl
def mlc_commands() -> Mapping[str, Callable[[], click.Command]]:
    """Offer `mlc plugins`."""
    return {"plugins": plugins_command}


def plugins_command() -> click.Command:
    """List the plugins that are installed, and those that are broken."""
    from mlc_hooks.listing import plugins

    return plugins
