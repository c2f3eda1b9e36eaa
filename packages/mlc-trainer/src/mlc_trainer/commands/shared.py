"""What the commands have in common."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlc_hooks.console import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["allow_local_modules", "plain_warnings", "print_metrics"]


def allow_local_modules() -> None:
    """Let `package.module:Class` in a configuration mean a module in the current directory, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings as one line on standard error: where in our code they arose helps nobody."""
    with warnings.catch_warnings():
        warnings.showwarning = _show
        yield


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


def print_metrics(title: str, metrics: Mapping[str, float], facts: Mapping[str, object], *, as_json: bool) -> None:
    """Print *metrics* as a table, or with *facts* as JSON."""
    if as_json:
        print_json({**facts, "metrics": dict(metrics)})
    else:
        print_table(title, ("metric", "value"), [(name, f"{value:.6g}") for name, value in metrics.items()])
