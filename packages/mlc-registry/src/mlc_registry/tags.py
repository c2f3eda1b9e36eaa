"""What may be a tag of a version, or a longer text about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from mlc_registry.errors import InvalidMetadataError, InvalidNoteError, InvalidTagError
from mlc_registry.metadata import LARGEST
from mlc_registry.requirements import require_text, show

__all__ = ["check_line", "check_notes", "check_tag", "check_tags", "check_text"]

Value = TypeVar("Value", str, "str | None")

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}", re.ASCII)
LONGEST = 256
"""Characters of a value."""
LINE = 1 << 16
"""Bytes that who did something may have, and why, in a line of history."""
MOST = 100
"""Tags that can be set at once."""


def check_tags(tags: Mapping[str, Value] | None) -> dict[str, Value]:
    """Return *tags* if each can be one; a value that is None takes the tag off.

    Raises:
        InvalidTagError: If one cannot; names it.
    """
    if tags is not None and not isinstance(tags, Mapping):
        msg = f"tags must be a mapping, as {{'team': 'vision'}}, not {show(tags)}"
        raise InvalidTagError(msg)
    found = {} if tags is None else dict(tags)
    if len(found) > MOST:
        msg = f"{len(found)} tags at once are too many, {MOST} are the limit; tables belong into metadata or files"
        raise InvalidTagError(msg)
    for key, value in found.items():
        check_tag(key, value)
    return found


def check_tag(key: object, value: object = None) -> None:
    """Refuse *key* or *value* if it cannot be that of a tag.

    Raises:
        InvalidTagError: If it cannot.
    """
    if not isinstance(key, str) or KEY.fullmatch(key) is None:
        why = "up to 63 letters, digits and ._/- are allowed, a letter or digit first, as in team/owner"
        msg = f"{show(key)} cannot be the key of a tag: {why}"
        raise InvalidTagError(msg)
    if value is None:
        return
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable():
        msg = f"tag {key!r} cannot be {show(value)}: one line of at most {LONGEST} printable characters is allowed"
        raise InvalidTagError(msg)


def check_notes(text: str) -> None:
    """Refuse *text* if it is no release notes.

    Raises:
        InvalidNoteError: If there is nothing in it.
        InvalidMetadataError: If it is no text.
    """
    if not require_text(text, "notes").strip():
        msg = "release notes that say nothing are none; an edition is replaced by another, not by none"
        raise InvalidNoteError(msg)


def check_line(*, actor: str = "", reason: str = "") -> None:
    """Refuse what a line of history cannot have as its *actor* or its *reason*.

    Raises:
        InvalidMetadataError: If it is too large, or holds what no database can keep.
    """
    check_text(actor, "actor", most=LINE)
    check_text(reason, "reason", most=LINE)


def check_text(text: str, what: str, *, most: int = LARGEST) -> str:
    """Return *text*, which is *what*, if it can be kept as a statement of at most *most* bytes.

    Raises:
        InvalidMetadataError: If it is too large, or holds what no database can keep.
    """
    size = len(require_text(text, what).encode())
    if size > most:
        msg = f"{what} cannot be kept: it has {size:,} bytes, and {most:,} is the limit; publish a file with the files"
        raise InvalidMetadataError(msg)
    return text
