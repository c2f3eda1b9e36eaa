"""The hub's layout: a model in one file, or in several with an index that says which tensor is where."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import orjson

from mlc_core.errors import ConfigurationError, CorruptCheckpointError
from mlc_core.naming import is_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlc_core.protocols import TensorBytes

__all__ = ["FILE", "INDEX", "encode_index", "is_ours", "name_shard", "parse_size", "read_index", "split"]

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
LAYOUT = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")
UNITS = {
    "": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]I?B)?", re.IGNORECASE)


def parse_size(size: int | str) -> int:
    """Return *size* in bytes: a number, or text as `5GB` (10⁹ each, as the hub counts) or `512MiB`.

    Raises:
        ConfigurationError: If it is neither, or less than one byte.
    """
    found = SIZE.fullmatch(str(size).strip())
    count = int(float(found[1]) * UNITS[(found[2] or "").upper()]) if found else 0
    if count < 1:
        msg = f"{size!r} is no size of a file; write it as '5GB', '512MiB' or a number of bytes"
        raise ConfigurationError(msg)
    return count


def is_ours(name: str) -> bool:
    """Say whether a file of that *name* is part of this layout."""
    return LAYOUT.fullmatch(name) is not None


def split(tensors: Mapping[str, TensorBytes], size: int) -> list[dict[str, TensorBytes]]:
    """Return *tensors* in as few shards in order as have at most *size* bytes each; a larger tensor has its own."""
    shards: list[dict[str, TensorBytes]] = [{}]
    room = size
    for name, tensor in tensors.items():
        if shards[-1] and len(tensor.data) > room:
            shards.append({})
            room = size
        shards[-1][name] = tensor
        room -= len(tensor.data)
    return shards


def name_shard(number: int, count: int) -> str:
    """Return what the hub calls shard *number*, from 1, of *count*."""
    return FILE if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"


def encode_index(shards: Sequence[Mapping[str, TensorBytes]], metadata: Mapping[str, str]) -> bytes:
    """Return the index of *shards*: their bytes together, and the file of each tensor."""
    total = sum(len(one.data) for shard in shards for one in shard.values())
    places = {name: name_shard(number, len(shards)) for number, shard in enumerate(shards, 1) for name in shard}
    content = {"metadata": {**metadata, "total_size": total}, "weight_map": places}
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def read_index(path: Path) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Return the names of the tensors in each shard, and the metadata, of the index at *path*.

    Raises:
        CorruptCheckpointError: If it is no index, or names a file that is not beside it.
    """
    try:
        content = json.loads(path.read_bytes())
        places, metadata = content["weight_map"], content.get("metadata") or {}
        sound = isinstance(metadata, dict) and all(isinstance(one, str) for one in places.values())
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        msg = f"{path} is no index of shards ({type(error).__name__}: {error})"
        raise CorruptCheckpointError(msg) from error
    if not sound:
        msg = f"{path} is no index of shards: its weight_map is not file names by tensor names"
        raise CorruptCheckpointError(msg)
    shards: dict[str, list[str]] = {}
    for name, file in places.items():
        if not is_name(file):
            msg = f"{path} says that {name} is in {file!r}, which is not the name of a file beside it"
            raise CorruptCheckpointError(msg)
        shards.setdefault(file, []).append(name)
    return shards, metadata
