"""How the tensors of one item are laid out in files: one, or the hub's shards with their index.

The layout is that of the Hugging Face hub: `model-00001-of-00002.safetensors` and so on, and
`model.safetensors.index.json`, which says where each tensor is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mlc_core.protocols import TensorBytes

__all__ = ["LARGEST_SHARD", "cut", "index_document", "index_name", "shard_names"]

LARGEST_SHARD = 5_000_000_000  # bytes; what the hub's own tools make
Shard = dict[str, "TensorBytes"]


def cut(tensors: Mapping[str, TensorBytes], frozen: Collection[str], limit: int = LARGEST_SHARD) -> list[Shard]:
    """Return *tensors* in shards of at most *limit* bytes, those that are *frozen* never beside those that train.

    A tensor larger than *limit* has a shard of its own.
    """
    if not frozen and 0 < sum(tensor.size for tensor in tensors.values()) <= limit:
        return [dict(tensors)]
    still = {name: tensor for name, tensor in tensors.items() if name in frozen}
    trained = {name: tensor for name, tensor in tensors.items() if name not in still} if still else tensors
    return [shard for group in (still, trained) for shard in _cut(group, limit)]


def _cut(tensors: Mapping[str, TensorBytes], limit: int) -> list[Shard]:
    shards: list[Shard] = []
    room = 0
    for name, tensor in tensors.items():
        if not shards or tensor.size > room:
            shards.append({})
            room = limit
        shards[-1][name] = tensor
        room -= tensor.size
    return shards


def shard_names(item: str, count: int, suffix: str) -> Sequence[str]:
    """Return the names of the *count* files of *item*."""
    if count == 1:
        return (f"{item}{suffix}",)
    return tuple(f"{item}-{number:05}-of-{count:05}{suffix}" for number in range(1, count + 1))


def index_name(item: str, suffix: str) -> str:
    """Return the name of the file that says where the tensors of *item* are."""
    return f"{item}{suffix}.index.json"


def index_document(shards: Sequence[Mapping[str, TensorBytes]], names: Sequence[str]) -> bytes:
    """Return the content of that file."""
    places = {tensor: name for shard, name in zip(shards, names, strict=True) for tensor in shard}
    total = sum(tensor.size for shard in shards for tensor in shard.values())
    document = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)
