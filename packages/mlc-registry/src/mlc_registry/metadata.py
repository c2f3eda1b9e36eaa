"""Metadata, checked so that what is kept is what was given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from mlc_registry.errors import InvalidMetadataError
from mlc_registry.requirements import show

if TYPE_CHECKING:
    from mlc_registry.records import Json

__all__ = ["decode_metadata", "encode_metadata", "normalise_metadata"]

DEEPEST = 64
LARGEST = 1 << 20
"""Bytes of JSON: a row is read whole wherever the version is listed, and a table of results belongs in a file."""


def normalise_metadata(metadata: Mapping[str, Any] | None, *, what: str = "metadata") -> dict[str, Json]:
    """Return *metadata* as plain JSON values: tuples are lists, numbers that a library subclassed are plain ones.

    Raises:
        InvalidMetadataError: If something cannot be kept; names where it stands.
    """
    found = _plain({} if metadata is None else metadata, what, 0)
    if not isinstance(found, dict):
        msg = f"{what} must be a mapping of names to values, not a {type(metadata).__name__}"
        raise InvalidMetadataError(msg)
    size = len(encode_metadata(found))
    if size > LARGEST:
        msg = f"{what} is {size:,} bytes of JSON, and {LARGEST:,} is the limit; publish a file with the files"
        raise InvalidMetadataError(msg)
    return found


def encode_metadata(metadata: Mapping[str, Json]) -> str:
    """Return *metadata*, once normalised, as JSON with sorted names: equal metadata are equal text."""
    return orjson.dumps(metadata, option=orjson.OPT_SORT_KEYS).decode()


def decode_metadata(text: str) -> dict[str, Json]:
    """Return the metadata that `encode_metadata` wrote.

    Raises:
        InvalidMetadataError: If somebody else wrote it.
    """
    try:
        found: dict[str, Json] = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        msg = f"the database holds metadata that are no JSON: {error}"
        raise InvalidMetadataError(msg) from error
    return found


def _plain(value: Any, where: str, depth: int) -> Json:
    if depth > DEEPEST:
        msg = f"{where[:80]}… is nested more than {DEEPEST} deep"
        raise InvalidMetadataError(msg)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _check_text(str(value), where)
    if isinstance(value, (int, float)):
        return _plain_number(value, where)
    if isinstance(value, Mapping):
        items = value.items()
        return {_check_name(name, where): _plain(one, f"{where}[{show(name)}]", depth + 1) for name, one in items}
    if isinstance(value, (list, tuple)):
        return [_plain(one, f"{where}[{index}]", depth + 1) for index, one in enumerate(value)]
    advice = "use its .item()" if hasattr(value, "item") else "use numbers, texts, lists and mappings"
    return _refuse(where, f"a {type(value).__module__}.{type(value).__name__} is not JSON", advice)


def _plain_number(value: float, where: str) -> int | float:
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            _refuse(where, "the number does not fit into 64 bits", "keep it as text")
        return int(value)
    if not math.isfinite(value):
        _refuse(where, f"JSON has no {value}", "leave it out, or keep it as text")
    return float(value)


def _refuse(where: str, why: str, advice: str) -> NoReturn:
    msg = f"{where} cannot be kept: {why}; {advice}"
    raise InvalidMetadataError(msg)


def _check_name(name: object, where: str) -> str:
    if not isinstance(name, str):
        _refuse(where, f"the name {show(name)} is not a text", "JSON has no other names")
    return _check_text(str(name), where)


def _check_text(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        _refuse(where, f"{show(text)} holds half a character", "decode it properly first")
    return text
