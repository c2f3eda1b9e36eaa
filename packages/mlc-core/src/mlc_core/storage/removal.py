"""Deleting what nobody can see any more, beside the work: freeing the blocks of a large file takes a disk its time."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["delete", "wait_until_deleted"]

_deleting = ThreadPoolExecutor(
    max_workers=1, thread_name_prefix="mlc-removal"
)  # the interpreter waits for it at its end


def delete(trash: Path) -> None:
    """Delete the directory *trash* soon. What a dying process leaves of it, a later one sweeps."""
    _deleting.submit(_delete, trash)


def _delete(trash: Path) -> None:
    with suppress(OSError):  # another process may be sweeping; what stays is swept later
        shutil.rmtree(trash)


def wait_until_deleted() -> None:
    """Wait until everything is gone that was to be deleted until now."""
    _deleting.submit(int).result()
