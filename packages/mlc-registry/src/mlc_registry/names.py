"""What may be the name of a model, of a stage, and of the place where a version's files lie."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from mlc_registry.errors import InvalidNameError, InvalidRangeError
from mlc_registry.requirements import require_text, show
from mlc_registry.semver.ranges import Range

if TYPE_CHECKING:
    from mlc_registry.semver.versions import Version

__all__ = ["KEYWORDS", "check_asked", "check_listener", "check_model", "check_stage", "directory_name"]

SHORTENED = 180
"""Characters that are left of a version that is too long for the name of a directory."""

KEYWORDS = ("latest", "newest")
"""References that are neither a version nor a stage: the highest release, and what was published last."""

MODEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?", re.ASCII)
STAGE = re.compile(r"[a-z](?:[a-z0-9_-]{0,62}[a-z0-9])?", re.ASCII)


def check_model(name: str) -> str:
    """Return *name* if it can name a model.

    Raises:
        InvalidNameError: If it cannot.
    """
    if not _matches(MODEL, name):
        msg = (
            f"{show(name)} cannot name a model: up to 100 letters, digits and ._- are allowed, "
            "a letter or digit first and last, as in brain-tissue"
        )
        raise InvalidNameError(msg)
    return name


def check_asked(name: str) -> str:
    """Return *name* if a model can be looked up by it, be there one or not.

    Raises:
        InvalidNameError: If it is no text that a database could keep.
    """
    return require_text(name, "the name of a model", error=InvalidNameError)


def check_stage(name: str) -> str:
    """Return *name* if it can name a stage and will never be taken for a range or a keyword.

    Raises:
        InvalidNameError: If it cannot.
    """
    why = "up to 64 small letters, digits and _- are allowed, a letter first, as in production"
    if name in KEYWORDS:
        why = f"it has a meaning of its own, as have all of: {', '.join(KEYWORDS)}"
    elif _matches(STAGE, name):
        try:
            Range.parse(name)
        except InvalidRangeError:
            return name
        why = "it reads as a range of versions"
    msg = f"{show(name)} cannot name a stage: {why}"
    raise InvalidNameError(msg)


def check_listener(name: str) -> str:
    """Return *name* if it can name a listener.

    Raises:
        InvalidNameError: If it cannot.
    """
    if not _matches(STAGE, name):
        why = "up to 64 small letters, digits and _- are allowed, a letter first, as in deployer"
        msg = f"{show(name)} cannot name a listener: {why}"
        raise InvalidNameError(msg)
    return name


def _matches(pattern: re.Pattern[str], name: object) -> bool:
    return isinstance(name, str) and pattern.fullmatch(name) is not None


def directory_name(version: Version) -> str:
    """Return the name of the directory for *version*; file systems take 255 bytes, and versions may be longer."""
    text = str(version)
    return text if len(text) <= 200 else f"{text[:SHORTENED]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"
