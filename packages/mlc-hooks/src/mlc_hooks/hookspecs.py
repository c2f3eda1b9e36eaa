"""The one hook that the front door itself asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks.markers import hookspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import click

__all__ = ["mlc_commands"]


@hookspec
def mlc_commands() -> Mapping[str, Callable[[], click.Command]]:  # type: ignore[empty-body]
    """Offer commands for `mlc`, by name.

    Each factory is called only when its command is chosen, so it may import what it likes; the first line of its
    docstring is the command's line in `mlc --help`.
    """
