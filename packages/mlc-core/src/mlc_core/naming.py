"""Names of checkpoints, files and pointers: what they look like, and what is refused."""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING

from mlc_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

__all__ = ["MANIFEST", "STATE", "check_name", "entry_names", "is_given_name", "is_name"]

MANIFEST = "manifest.json"
STATE = "state.json"

GIVEN = re.compile(r"(epoch_\d+(_step_\d+)?|step_\d+|checkpoint)(_r\d+)?")
SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@=-]{0,127}")


def is_given_name(name: str) -> bool:
    """Say whether *name* is one that `entry_names` gives, and not one that a person gave to a copy."""
    return GIVEN.fullmatch(name) is not None


def is_name(name: str) -> bool:
    """Say whether *name* can name one file or directory anywhere: it is neither hidden nor a path."""
    return SAFE.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Return *name* if it can name one file or directory anywhere.

    Raises:
        ConfigurationError: If it is hidden, a path, or holds what some file system or URL does not take.
    """
    if not is_name(name):
        msg = f"{name!r} cannot be the name of a file or directory: letters, digits and _.+@=- only, no leading dot"
        raise ConfigurationError(msg)
    return name


def entry_names(epoch: int | None, step: int | None, *, epoch_ended: bool, taken: Container[str] = ()) -> Iterator[str]:
    """Yield the names that a checkpoint can have, without those *taken*: its own, then with a number behind it.

    An epoch that is trained again gets `epoch_3_r2` and the old one stays until retention has seen both.
    """
    parts = [] if epoch is None else [f"epoch_{epoch}"]
    if step is not None and (epoch is None or not epoch_ended):
        parts.append(f"step_{step}")
    plain = "_".join(parts) or "checkpoint"
    for repeat in count(1):
        name = plain if repeat == 1 else f"{plain}_r{repeat}"
        if name not in taken:
            yield name
