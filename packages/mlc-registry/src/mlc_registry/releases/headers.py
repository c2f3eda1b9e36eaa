"""The header of one safetensors file, read and believed only where the file bears it out.

The format: https://github.com/huggingface/safetensors#format. Nothing behind the header is read.
"""

from __future__ import annotations

import json
import math
import os
import stat
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from mlc_registry.errors import SchemaError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_header", "read_json"]

BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64,
    "F32": 32, "I32": 32, "U32": 32,
    "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "I8": 8, "U8": 8, "BOOL": 8,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
LONGEST = 32 << 20
"""Bytes of a header: a quarter of a million tensors. The library takes three times that, which costs gigabytes."""
LARGEST_JSON = 64 << 20
"""Bytes of a JSON file beside the tensors."""
MOST_AXES = 64  # what torch and NumPy can hold


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the dtype and the shape of each tensor in the file *path*.

    Raises:
        SchemaError: If it is no safetensors file, or its header claims what the file does not hold.
    """
    text, room = _read_bytes(path)
    header = _parse(path, text)
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(path, "its __metadata__ are no texts by name")
    spans = {name: _read_entry(path, name, entry) for name, entry in header.items()}
    _check_coverage(path, sorted((begin, end) for _, _, begin, end in spans.values()), room)
    return {name: (dtype, shape) for name, (dtype, shape, _, _) in spans.items()}


def read_json(path: Path) -> Any:
    """Return what the JSON file *path* says.

    Raises:
        SchemaError: If it is none, or too large to be one that belongs to a model.
    """
    try:
        with _open(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > LARGEST_JSON:
                _refuse(path, f"it has {size:,} bytes, and {LARGEST_JSON:,} is the limit")
            return orjson.loads(stream.read(LARGEST_JSON))
    except OSError as error:
        _refuse(path, error.strerror or str(error))
    except orjson.JSONDecodeError as error:
        _refuse(path, f"it is no JSON: {error}")


def _open(path: Path) -> Any:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for ever
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        _refuse(path, "it is no file")
    return os.fdopen(handle, "rb")


def _read_bytes(path: Path) -> tuple[bytes, int]:
    """Return the header's text, and how many bytes of data follow."""
    try:
        with _open(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > size - 8:
                _refuse(path, f"it has {size:,} bytes, and no safetensors header fits into them")
            if length > LONGEST:
                _refuse(path, f"its header claims {length:,} bytes, and {LONGEST:,} is the limit")
            text = stream.read(length)
    except OSError as error:
        _refuse(path, error.strerror or str(error))
    if len(text) < length or not text.startswith(b"{"):
        _refuse(path, "it does not begin with a header of safetensors")
    return text, size - 8 - length


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            _refuse(path, "its header names something twice")
        return found

    try:
        orjson.loads(text)  # which is strict about numbers and text, but takes the last of two equal names
        header = json.loads(text, object_pairs_hook=once)
    except (RecursionError, ValueError) as error:
        if isinstance(error, SchemaError):
            raise
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        _refuse(path, f"its header is no JSON: {why}")
    found: dict[str, Any] = header
    return found


def _read_entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        sound = isinstance(entry["shape"], list) and isinstance(dtype, str) and len(shape) <= MOST_AXES
        sound = sound and all(type(one) is int and 0 <= one < 2**63 for one in (*shape, begin, end))
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        _refuse(path, f"tensor {name[:80]!r} has an impossible entry {str(entry)[:200]}")
    if dtype not in BITS:
        _refuse(path, f"tensor {name[:80]!r} is of dtype {dtype[:80]!r}, which is not known here")
    if (end - begin) * 8 != math.prod(shape) * BITS[dtype]:
        shown = f"{dtype} {list(shape)}"[:200]
        _refuse(path, f"tensor {name[:80]!r} is {shown}, which does not take the {end - begin:,} bytes it has")
    return dtype, shape, begin, end


def _check_coverage(path: Path, spans: list[tuple[int, int]], room: int) -> None:
    reached = 0
    for begin, end in spans:
        if begin != reached:
            _refuse(path, f"its tensors overlap or leave a hole at byte {min(begin, reached):,} of the data")
        reached = end
    if reached != room:
        _refuse(path, f"its tensors take {reached:,} bytes, and it holds {room:,}")


def _refuse(path: Path, why: str) -> NoReturn:
    msg = f"the tensors of {path} cannot be listed: {why}"
    raise SchemaError(msg)
