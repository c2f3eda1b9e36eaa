"""The `mlc` command: every subcommand is an offer of some plugin, loaded only when it is chosen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mlc_hooks.catalog import Catalog
from mlc_hooks.console import print_error, say
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
    """Run `mlc` and turn MLC's own errors into one message on standard error and their exit status, mostly 1.

    With `--json` among the *arguments* that message is one line of JSON, `{"error": {"kind": …, "message": …}}`, be the
    error MLC's own or one of usage.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in given[: given.index("--") if "--" in given else None]
    try:
        status = mlc.main(args=given, prog_name="mlc", standalone_mode=not as_json)
    except MlcError as error:
        if not as_json:
            say(f"Error: {error}", err=True)
        else:
            print_error(type(error).__name__, str(error))
        sys.exit(error.exit_status)
    except click.ClickException as error:
        print_error(type(error).__name__, error.format_message())
        sys.exit(error.exit_code)
    except click.Abort:
        print_error("Abort", "it was interrupted")
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)
