"""The file `state.json`: the typed JSON of every item, in one document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from mlc_core.errors import CorruptCheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_core.state.items import ItemState

__all__ = ["decode_document", "encode_document"]


def encode_document(states: Mapping[str, ItemState]) -> bytes:
    """Return the document of *states*."""
    return orjson.dumps({name: state.tree for name, state in states.items()})


def decode_document(data: bytes | memoryview) -> dict[str, Any]:
    """Return the trees by item.

    Raises:
        CorruptCheckpointError: If *data* is not such a document.
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        msg = f"state.json is not JSON: {error}"
        raise CorruptCheckpointError(msg) from error
    if not isinstance(document, dict):
        msg = f"state.json holds a {type(document).__name__}, not the items of a checkpoint"
        raise CorruptCheckpointError(msg)
    return document
