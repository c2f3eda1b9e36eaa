"""What several commands take, spelled the same on each, and the question before something is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from mlc_core.errors import ConfigurationError, StorageError
from mlc_core.history import read_history, remembered_monitor
from mlc_core.records import Monitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlc_core.protocols import Storage
    from mlc_core.records import Mode

__all__ = ["agree", "changing", "check_answer", "examples", "find_monitor", "measured", "one", "place"]

place = click.argument("path", default=".")
"""Where to look; here, if nothing is said."""

one = click.argument("path")
"""One checkpoint."""


def examples(*lines: str) -> str:
    """Return *lines*, as a person would type them, for the end of a command's help."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def changing(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* `--yes` and `--dry-run`."""
    command = click.option("--yes", "-y", is_flag=True, help="Do it without asking.")(command)
    return click.option("--dry-run", "-n", is_flag=True, help="Say what would be done, and do nothing.")(command)


def measured(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* `--metric` and `--mode`."""
    command = click.option(
        "--mode", type=click.Choice(["min", "max"]), help="Whether less or more of the metric is better."
    )(command)
    return click.option(
        "--metric", help="The metric that says which is best. Without: the one that the last training monitored."
    )(command)


def agree(question: str, *, yes: bool, dry_run: bool, as_json: bool) -> bool:
    """Return whether to go on: asked, unless the answer was given with the command.

    Raises:
        UsageError: If both answers were given, or none where only a program listens.
    """
    check_answer(yes=yes, dry_run=dry_run, as_json=as_json)
    if dry_run:
        return False
    return yes or click.confirm(question, err=True)


def check_answer(*, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Refuse what could not be answered, before work starts."""
    if yes and dry_run:
        msg = "--yes and --dry-run contradict each other; give one"
        raise click.UsageError(msg)
    if as_json and not (yes or dry_run):
        msg = "--json asks no questions; give --yes or --dry-run with it"
        raise click.UsageError(msg)


def find_monitor(storage: Storage, metric: str | None, mode: str | None) -> Monitor | None:
    """Return the monitor that was given, else the one of the last training here, else None.

    Raises:
        ConfigurationError: If only half of it was given.
    """
    if (metric is None) != (mode is None):
        msg = f"--metric {metric} and --mode {mode} go together, as --metric val_dice --mode max"
        raise ConfigurationError(msg)
    if metric is not None:
        return Monitor(metric=metric, mode=cast("Mode", mode))
    try:
        return remembered_monitor(read_history(storage))
    except StorageError as error:  # it must not keep anybody from mending
        click.echo(f"The history cannot be read, so `best` is taken for any other link: {error}", err=True)
        return None
