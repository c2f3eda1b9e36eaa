"""The `mlc` command: every subcommand is an offer of some plugin, loaded only when it is chosen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mlc_hooks.catalog import Catalog
from mlc_hooks.console import say
from mlc_hooks.errors import AmbiguousNameError, MlcError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "mlc"]


class _OfferedCommands(click.Group):
    """A group whose commands are what plugins offer for `mlc_commands`."""

    def _catalog(self) -> Catalog[click.Command]:
        return Catalog("command", hook="mlc_commands", home="mlc_hooks")

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, without loading one."""
        return list(self._catalog().names())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Load the command *cmd_name*.

        Raises:
            UsageError: If there is none, or more than one; says what is close and which plugin is broken.
        """
        try:
            return self._catalog().make(cmd_name)
        except (AmbiguousNameError, UnknownNameError) as error:
            raise click.UsageError(str(error), ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one line per command from the factories' docstrings, so that help loads no command."""
        catalog = self._catalog()
        rows = sorted((catalog.spell(offer), offer.summary) for offer in catalog.offers())
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_OfferedCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mlc-hooks", prog_name="mlc")
def mlc() -> None:
    """Take a model from a training step to a served version.

    Every command comes from an installed MLC package or plugin; `mlc plugins` lists them. Most take --json.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `mlc` and turn MLC's own errors into one message on standard error and their exit status, mostly 1."""
    try:
        mlc.main(args=None if arguments is None else list(arguments), prog_name="mlc")
    except MlcError as error:
        say(f"Error: {error}", err=True)
        sys.exit(error.exit_status)
