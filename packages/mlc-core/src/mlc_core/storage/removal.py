"""Deleting what nobody can see any more, beside the work: freeing the blocks of a large file takes a disk its time."""

from __future__ import annotations

import functools
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["delete", "wait_until_deleted"]


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """Return the one thread that deletes; the interpreter waits for it at its end."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlc-removal")


os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has the object and not the thread


def delete(trash: Path) -> None:
    """Delete the directory *trash* soon. What a dying process leaves of it, a later one sweeps."""
    try:
        _threads().submit(_delete, trash)
    except RuntimeError:  # the interpreter is ending, and starts nothing new
        _delete(trash)


def _delete(trash: Path) -> None:
    with suppress(OSError):  # another process may be sweeping; what stays is swept later
        shutil.rmtree(trash)


def wait_until_deleted() -> None:
    """Wait until everything is gone that was to be deleted until now."""
    with suppress(RuntimeError):  # at the interpreter's end everything is deleted at once
        _threads().submit(int).result()
