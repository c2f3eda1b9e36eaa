"""The safetensors format: https://github.com/huggingface/safetensors#format.

Written here and not by the library of that name because a checkpoint is hashed while it is written, in pieces and
without a copy, and mapped when it is read; the tests hold every file against the library.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import orjson

from mlc_core.memory import ALIGNMENT, Spans
from mlc_core.protocols import TensorBytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlc_core.protocols import Buffer

__all__ = ["Safetensors"]

ITEM_SIZES = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8,
    "F32": 4, "I32": 4, "U32": 4,
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
}  # fmt: skip
LONGEST_HEADER = 100_000_000  # the library's own limit
MOST_AXES = 64  # what torch and NumPy can hold


class Safetensors:
    """The format that opens in anything that reads safetensors."""

    suffix = ".safetensors"

    def dump(self, tensors: Mapping[str, TensorBytes]) -> tuple[int, Iterable[Buffer]]:
        """Return the size and the pieces of the file: a header, then each tensor, widest elements first."""
        ordered = sorted(tensors.items(), key=lambda one: -ITEM_SIZES[one[1].dtype])  # keeps every tensor aligned
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        parts = []
        for name, tensor in ordered:
            begin, end = end, end + tensor.size
            header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (begin, end)}
            if end > begin:
                parts.append(tensor.source)
        text = orjson.dumps(header)
        text += b" " * (-(len(text) + 8) % ALIGNMENT)  # data begins on a page, so that it can be mapped in place
        start = len(text).to_bytes(8, "little") + text
        return len(start) + end, Spans([start, *parts])

    def load(self, data: memoryview) -> Mapping[str, TensorBytes]:
        """Return the tensors in *data*, sharing its memory.

        Raises:
            ValueError: If the header is not one, or claims what the file does not hold.
        """
        if len(data) < 8:
            msg = f"{len(data)} bytes are too few for a safetensors file"
            raise ValueError(msg)
        length = int.from_bytes(data[:8], "little")
        if length > min(LONGEST_HEADER, len(data) - 8):
            msg = f"the header claims {length} bytes of a file of {len(data)}"
            raise ValueError(msg)
        header = _read_header(bytes(data[8 : 8 + length]))
        header.pop("__metadata__", None)
        body = data[8 + length :]
        spans = {name: _read_span(name, entry) for name, entry in header.items()}
        _check_coverage(sorted((begin, end) for _, _, begin, end in spans.values()), len(body))
        return {name: TensorBytes(dtype, shape, body[begin:end]) for name, (dtype, shape, begin, end) in spans.items()}


def _read_header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_once)  # orjson takes the last of two equal keys
    except RecursionError as error:
        msg = "the header is nested too deeply"
        raise ValueError(msg) from error
    if not isinstance(header, dict):
        msg = "the header is no JSON object"
        raise ValueError(msg)  # noqa: TRY004 - the protocol promises ValueError for every bad file
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        msg = "the header names something twice"
        raise ValueError(msg)
    return found


def _read_span(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, begin, end)
        sound = len(shape) <= MOST_AXES and all(type(one) is int and 0 <= one < 2**63 for one in numbers)
        sound = sound and end - begin == math.prod(shape) * ITEM_SIZES[dtype]
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        msg = f"tensor {name!r} has an impossible header entry {str(entry)[:200]}"
        raise ValueError(msg)
    return dtype, shape, begin, end


def _check_coverage(spans: list[tuple[int, int]], size: int) -> None:
    reached = 0
    for begin, end in spans:
        if begin != reached:
            msg = f"tensors overlap or leave a hole at byte {min(begin, reached)} of the data"
            raise ValueError(msg)
        reached = end
    if reached != size:
        msg = f"tensors end at byte {reached} of {size} bytes of data"
        raise ValueError(msg)
