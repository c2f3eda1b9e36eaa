"""How commands print: a table for people, JSON for programs, one line for errors."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

__all__ = ["human_size", "json_option", "print_error", "print_json", "print_table", "printable", "say", "stdout"]

CONTROLS = {code: f"\\u{code:04x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
PIPE_WIDTH = 200  # a pipe has no width, and a table cut to 80 columns loses what grep looks for

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of a table.")
"""The `--json` flag, spelled the same on every command."""


def stdout() -> Console:
    """Return a console on standard output, as wide as the terminal or wide enough for a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=False)


def printable(text: str) -> str:
    """Return *text* with control characters written out, as in JSON, so that it moves no cursor and paints nothing."""
    return text.translate(CONTROLS)


def say(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print *text*, which may hold what somebody else wrote, as `click.echo` does, but `printable`."""
    click.echo(printable(str(text)), err=err, nl=nl)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print *rows* under *columns*; None is shown as nothing, and no text is read as markup."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(Text(printable(column)), overflow="fold")
    for row in rows:
        table.add_row(*[Text("" if cell is None else printable(str(cell))) for cell in row])
    console = stdout()
    console.print(Text(printable(title), style="italic"))  # a table's own title is folded to the table's width
    console.print(table)


def human_size(size: int) -> str:
    """Return *size* bytes in words, as `12.3 MB`."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def print_json(data: object) -> None:
    """Print *data* as one JSON document, indented. NaN and infinities, which JSON has no word for, become null."""
    say(json.dumps(_sayable(data), indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_error(kind: str, message: str) -> None:
    """Print an error on standard error as one line of JSON: `{"error": {"kind": …, "message": …}}`."""
    click.echo(json.dumps({"error": {"kind": kind, "message": message}}), err=True)


def _sayable(data: object) -> object:
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, Mapping):
        return {name: _sayable(value) for name, value in data.items()}
    return [_sayable(value) for value in data] if isinstance(data, (list, tuple)) else data
