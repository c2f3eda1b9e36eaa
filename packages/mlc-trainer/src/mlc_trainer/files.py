"""Small files of a run, replaced whole and durably."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlc_core.storage.files import failures, sync_directory

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["replace_file"]


def replace_file(path: Path, text: str) -> None:
    """Let *path* hold *text*, in one step: whoever dies meanwhile leaves the old content.

    Raises:
        DiskFullError, StorageError: If it cannot be written.
    """
    new = path.with_name(f"{path.name}.new")
    with failures(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        sync_directory(path.parent)
