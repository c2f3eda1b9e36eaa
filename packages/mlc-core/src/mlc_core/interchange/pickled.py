"""Files of `torch.save`, read without running anything that is in them."""

from __future__ import annotations

import re
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

from mlc_core.errors import CheckpointNotFoundError, CorruptCheckpointError, StateError
from mlc_core.state.frameworks import require
from mlc_core.storage import files

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_pt"]

ZIP = b"PK\x03\x04"  # as torch tells its newer files from its older ones
REFUSED = re.compile(r"(?:GLOBAL|but got|function) (?:<(?:class|function|built-in function) )?'?([^\s'>]+)")


def read_pt(path: Path, *, verify: bool = True) -> Any:
    """Return what `torch.save` wrote to *path*: tensors on the CPU, numbers, text, lists and dictionaries.

    Nothing in the file is executed: whatever asks for code is refused before.

    Args:
        path: The file.
        verify: Hold its parts against their check sums first, which torch writes and does not read.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CorruptCheckpointError: If it is no such file, or torn, or changed.
        StateError: If it cannot be read without running code; says which.
        StorageError: If it cannot be read at all.
    """
    torch = require("torch")
    if not path.is_file():
        msg = f"{path} is not a file"
        raise CheckpointNotFoundError(msg)
    with files.failures(path), path.open("rb") as opened:
        zipped = opened.read(len(ZIP)) == ZIP
    if zipped and verify:
        _check_sums(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of protocols that it refuses in the next line
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # what torch makes of a torn file is any error there is
        told = str(error)
        asked = _asked_for(told)
        if asked is not None:
            msg = (
                f"{path} asks for {asked} to be run or built while it is read, which could be any code; nothing was "
                "run. Save the plain tensors, numbers and text in it with the program that wrote it, and import that"
            )
            raise StateError(msg) from error
        cause = " ".join(told.rsplit("WeightsUnpickler error:", 1)[-1].split())[:120]
        cause = f"{type(error).__name__}: {cause}"
        msg = f"{path} is no file of torch.save as torch writes it, or torn ({cause}); get it again"
        raise CorruptCheckpointError(msg) from error


def _asked_for(told: str) -> str | None:
    """Return what a file wants to have run, of what torch *told* when it refused."""
    if "Weights only load failed" not in told:
        return None
    found = REFUSED.search(told.split("Weights only load failed", 1)[1])
    return found[1] if found else None


def _check_sums(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        msg = f"{path} is torn ({type(error).__name__}: {error}); get it again"
        raise CorruptCheckpointError(msg) from error
    if bad is not None:
        msg = (
            f"{path} was changed after it was written: the check sum of {bad} does not match; get it again, or pass "
            "verify=False if it was written without check sums"
        )
        raise CorruptCheckpointError(msg)
