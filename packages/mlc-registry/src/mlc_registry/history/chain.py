"""The seal of a line of history: a digest over the line and over the seal of the one before it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import attrs
import orjson

from mlc_registry.errors import InvalidMetadataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlc_registry.records import Line

__all__ = ["START", "line_facts", "seal"]

START = f"sha256:{'0' * 64}"
"""What the first line follows: the head of an empty history."""


def seal(previous: str, facts: Mapping[str, object]) -> str:
    """Return the digest of the line with these *facts* that follows the line with the digest *previous*.

    It is the SHA-256 of JSON with sorted names, without blanks, in UTF-8; anybody can compute it.

    Raises:
        InvalidMetadataError: If a text holds half a character.
    """
    try:
        text = orjson.dumps({**facts, "previous": previous}, option=orjson.OPT_SORT_KEYS, default=repr)
    except TypeError as error:
        msg = f"a line of history cannot be kept: {error}; decode actor and reason properly first"
        raise InvalidMetadataError(msg) from error
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def line_facts(line: Line) -> dict[str, Any]:
    """Return *line* as plain data, for JSON."""
    return {**attrs.asdict(line), "at": line.at.isoformat(timespec="microseconds")}
