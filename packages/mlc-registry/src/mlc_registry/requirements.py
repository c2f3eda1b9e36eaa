"""What is asked of every value that somebody passes: its kind, that it can be kept, and that it says something."""

from __future__ import annotations

import os
import reprlib
from typing import Any

from mlc_registry.errors import InvalidMetadataError, InvalidQueryError, RegistryError

__all__ = ["require_kind", "require_path", "require_said", "require_size", "require_text", "require_texts", "show"]

LONGEST_PATH = 4096
"""Bytes of a path: what systems take."""
LONGEST_NAME = 255
"""Bytes of one name in it."""
ALL = 2**63 - 1
"""What every database can count to."""

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80


def show(value: object) -> str:
    """Return *value* for a message: short, printable whatever it holds, and never an error of its own."""
    try:
        text = _repr.repr(value)
    except Exception:  # numbers with too many digits, and objects that cannot even be shown
        text = f"a {type(value).__name__}"
    return text if text.isprintable() else ascii(text)


def require_text(value: object, what: str, *, error: type[RegistryError] = InvalidMetadataError) -> str:
    """Return *value*, which is *what*, if it is a text that every database can keep.

    Raises:
        RegistryError: If it is none, or holds a null or half a character; an *error*.
    """
    if not isinstance(value, str):
        msg = f"{what} must be a text, not {show(value)} ({type(value).__name__})"
        raise error(msg)
    if "\0" in value:
        msg = f"{what} {show(value)} holds a null character, which no database can keep; take it out"
        raise error(msg)
    try:
        value.encode()
    except UnicodeEncodeError:
        msg = f"{what} {show(value)} holds half a character; decode it properly first"
        raise error(msg) from None
    return value


def require_said(value: object, what: str) -> str:
    """Return *value*, which is *what*, if it is a text that says something.

    Raises:
        InvalidMetadataError: If it is no text, or blank.
    """
    text = require_text(value, what)
    if not text.strip():
        msg = f"{what} {show(text)} says nothing, and stays in the history for ever; say it, or leave it out"
        raise InvalidMetadataError(msg)
    return text


def require_texts(values: object, what: str, *, error: type[RegistryError]) -> tuple[str, ...]:
    """Return *values*, which are *what*: one text, or any number of them.

    Raises:
        RegistryError: If one is no text; an *error*.
    """
    if isinstance(values, str):
        values = (values,)
    if not isinstance(values, (list, tuple, set, frozenset)):
        msg = f"{what} must be a list of texts, not {show(values)}"
        raise error(msg)
    return tuple(require_text(one, what, error=error) for one in values)


def require_kind(value: object, kind: Any, what: str, *, error: type[RegistryError]) -> None:
    """Refuse *value* if it is no *kind*; *what* says what is needed, and how to write it.

    Raises:
        RegistryError: If it is none; an *error*.
    """
    if not isinstance(value, kind):
        msg = f"{what} is needed, not {show(value)} ({type(value).__name__})"
        raise error(msg)


def require_size(value: object, what: str, *, least: int = 0, most: int = ALL, way: str = "") -> int:
    """Return *value*, which is *what*, if it counts something, from *least* to *most*.

    Raises:
        InvalidQueryError: If it does not; *way* is the way out.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        msg = f"{what}={show(value)} must be a whole number from {least} to {most}{way and f'; {way}'}"
        raise InvalidQueryError(msg)
    return value


def require_path(value: object, what: str, *, error: type[RegistryError]) -> str:
    """Return *value*, which is *what*, if it can be a path; whether anything is there is another question.

    Raises:
        RegistryError: If it is neither a text nor a path, if it is too long, or if no system has such a path; an
            *error*.
    """
    found = value.__fspath__() if isinstance(value, os.PathLike) else value
    if not isinstance(found, str):
        msg = f"{what} must be a path, not {show(value)} ({type(value).__name__})"
        raise error(msg)
    try:
        size = len(os.fsencode(found))
    except UnicodeEncodeError:
        msg = f"{what} {show(found)} holds half a character; decode it properly first"
        raise error(msg) from None
    longest = 0 if "://" in found else max(len(os.fsencode(one)) for one in found.split("/"))
    if "\0" in found or size > LONGEST_PATH or longest > LONGEST_NAME or not found:
        why = "holds a null character" if "\0" in found else f"has {size:,} bytes"
        msg = f"{what} {show(found)} {why}, and no path does; name a file or a directory"
        raise error(msg)
    return found
