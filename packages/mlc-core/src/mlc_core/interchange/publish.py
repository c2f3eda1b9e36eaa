"""Files that appear complete, durably, and over nothing that was not given up."""

from __future__ import annotations

import errno
import os
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlc_core.errors import ConfigurationError, EntryExistsError
from mlc_core.naming import MANIFEST
from mlc_core.storage import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["check_absent", "partial", "publish", "refuse_checkpoint"]

WITHOUT_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def refuse_checkpoint(directory: Path) -> None:
    """Refuse to write into a checkpoint.

    Raises:
        ConfigurationError: If *directory* is one.
    """
    if (directory / MANIFEST).exists():
        msg = f"{directory} is a checkpoint, and nothing in one is ever changed; export to another directory"
        raise ConfigurationError(msg)


def check_absent(path: Path) -> None:
    """Refuse to write over *path*.

    Raises:
        EntryExistsError: If there is something.
    """
    if os.path.lexists(path):
        msg = f"{path} is there already, and nothing is written over it; take another name or pass overwrite=True"
        raise EntryExistsError(msg)


@contextmanager
def partial(path: Path) -> Iterator[Path]:
    """Give the name of a file next to *path* to be written first; what is left of it is removed in the end."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")  # one file system, so that renaming is atomic
    try:
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def publish(written: Path, path: Path, *, overwrite: bool) -> None:
    """Let the file *written*, complete and synced, be *path*; its directory is yet to be synced.

    Raises:
        ConfigurationError: If *path* lies in a checkpoint.
        EntryExistsError: If there is something at *path*, and not *overwrite*.
        StorageError: If the file system does not do it.
    """
    refuse_checkpoint(path.parent)
    with files.failures(path):
        if overwrite:
            written.replace(path)
            return
        try:
            os.link(written, path)  # unlike a rename it fails where something is
        except FileExistsError:
            check_absent(path)
            raise
        except OSError as error:
            if error.errno not in WITHOUT_LINKS:
                raise
            check_absent(path)
            written.rename(path)
