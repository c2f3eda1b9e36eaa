"""A bar on the terminal while much is read; nothing where nobody looks."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["progress"]

LONG = 256 << 20  # bytes; less is read before a bar could be looked at


@contextmanager
def progress(words: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of *total* bytes the block has read; it tells by calling what it is given.

    The bar goes to standard error, so that what is printed can be piped, and only if that is a terminal.
    """
    if total < LONG or not sys.stderr.isatty():
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(words, total=total)
        yield lambda count: shown.advance(task, count)


def _ignore(_: int) -> None:
    pass
