"""Names of checkpoints, files and pointers: what they look like, and what is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlc_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["MANIFEST", "STATE", "check_name", "entry_name"]

MANIFEST = "manifest.json"
STATE = "state.json"

SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@=-]{0,127}")


def check_name(name: str) -> str:
    """Return *name* if it can name one file or directory anywhere.

    Raises:
        ConfigurationError: If it is hidden, a path, or holds what some file system or URL does not take.
    """
    if not SAFE.fullmatch(name):
        msg = f"{name!r} cannot be the name of a file or directory: letters, digits and _.+@=- only, no leading dot"
        raise ConfigurationError(msg)
    return name


def entry_name(epoch: int | None, step: int | None, *, epoch_ended: bool, taken: Container[str]) -> str:
    """Return the name of a checkpoint, with a number behind it when it was there before.

    An epoch that is trained again gets `epoch_3_r2` and the old one stays until retention has seen both.
    """
    parts = [] if epoch is None else [f"epoch_{epoch}"]
    if step is not None and (epoch is None or not epoch_ended):
        parts.append(f"step_{step}")
    plain = name = "_".join(parts) or "checkpoint"
    repeat = 1
    while name in taken:
        repeat += 1
        name = f"{plain}_r{repeat}"
    return name
