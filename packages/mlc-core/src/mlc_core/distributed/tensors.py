"""The tensors of a state taken out of it, as they are, and put back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch.distributed.tensor import DTensor

from mlc_core.distributed.trees import TENSOR, is_reference, names_in
from mlc_core.errors import CorruptCheckpointError, MismatchError, StateError
from mlc_core.protocols import TensorBytes
from mlc_core.state.frameworks import bytes_to_tensor
from mlc_core.state.tree import TensorSink, decode, encode

__all__ = ["Parts", "as_bytes", "code_of", "dtype_of", "has_shards", "join", "local_part", "split"]

DEEPEST = 80  # as deep as the state of any other item may be


@attrs.frozen
class Parts:
    """A state in two parts."""

    tree: Any
    """Typed JSON, with references into *tensors*."""
    tensors: Mapping[str, torch.Tensor]
    """Sharing the memory of the state's."""


def split(item: str, state: object) -> Parts:
    """Take the tensors out of *state*, the state of *item*.

    Raises:
        StateError: If something in it would be lost; names the place, the type and the way out.
    """
    found: dict[str, torch.Tensor] = {}
    return Parts(_take(state, item, (), found), found)


def join(tree: Any, tensors: Mapping[str, torch.Tensor], *, where: str, partial: bool = False) -> Any:
    """Return the state that *tree* stands for, with *tensors* themselves in their places.

    Args:
        tree: Typed JSON.
        tensors: What it refers to, by name.
        where: The item, for the error.
        partial: Leave out the entries at the top for which there are no *tensors*.

    Raises:
        MismatchError: If a tensor is missing, and not *partial*.
        CorruptCheckpointError: If *tree* is not typed JSON.
    """
    if partial and isinstance(tree, dict):
        tree = {key: part for key, part in tree.items() if all(name in tensors for name in names_in(part))}
    missing = [name for name in names_in(tree) if name not in tensors]
    if missing:
        msg = f"{where} has no place for {', '.join(missing[:5])}, which the checkpoint holds"
        raise MismatchError(msg)
    return decode(_substitute(tree, tensors), {}, copy=False)


def has_shards(value: object) -> bool:
    """Say whether there is a `DTensor` in *value*, of which no rank alone has all."""
    if isinstance(value, Mapping):
        return any(has_shards(part) for part in value.values())
    if isinstance(value, (list, tuple)):
        return any(has_shards(part) for part in value)
    return isinstance(value, DTensor)


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this rank has of *tensor*, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def as_bytes(tensor: torch.Tensor, where: str) -> TensorBytes:
    """Return the elements of *tensor*, which is no shard.

    Raises:
        StateError: If it has no exact form in a file; names *where* it lies and the way out.
    """
    sink = TensorSink()
    encode(tensor, sink, item=where)
    (found,) = sink.tensors.values()
    return found


def code_of(dtype: torch.dtype) -> str:
    """Return *dtype* as safetensors spells it."""
    return as_bytes(torch.empty(0, dtype=dtype), str(dtype)).dtype


def dtype_of(code: str) -> torch.dtype:
    """Return the dtype that safetensors spells *code*.

    Raises:
        CorruptCheckpointError: If there is none.
    """
    try:
        return bytes_to_tensor(TensorBytes(code, (0,), b"")).dtype
    except (AttributeError, KeyError) as error:
        msg = f"{code[:40]!r} is no dtype that torch has"
        raise CorruptCheckpointError(msg) from error


def _take(value: Any, where: str, path: tuple[str, ...], found: dict[str, torch.Tensor]) -> Any:
    """Return *value* as typed JSON, as `encode` would, but with the tensors themselves in *found*."""
    if len(path) > DEEPEST:
        msg = f"{where[:80]}… is nested more than {DEEPEST} deep; does it hold itself?"
        raise StateError(msg)
    if isinstance(value, torch.Tensor):
        return {TENSOR: _keep(value, where, path, found)}

    def inside(part: Any, name: object) -> Any:
        return _take(part, f"{where}.{name}", (*path, str(name)), found)

    if type(value) is dict and all(type(key) is str and not key.startswith("$") for key in value):
        return {key: inside(part, key) for key, part in value.items()}
    if type(value) in {dict, OrderedDict}:
        tag = "$dict" if type(value) is dict else "$ordered"
        return {tag: [[_plain(key, where), inside(part, key)] for key, part in value.items()]}
    if type(value) in {list, tuple}:
        parts = [inside(part, position) for position, part in enumerate(value)]
        return parts if type(value) is list else {"$tuple": parts}
    return _plain(value, where)


def _plain(value: Any, where: str) -> Any:
    sink = TensorSink()
    tree = encode(value, sink, item=where)
    if sink.tensors:
        msg = f"{where} holds a {type(value).__qualname__} with arrays, which cannot be sharded; give torch tensors"
        raise StateError(msg)
    return tree


def _keep(value: torch.Tensor, where: str, path: tuple[str, ...], found: dict[str, torch.Tensor]) -> str:
    tensor = value.detach()
    if isinstance(tensor, DTensor) and any(one.is_partial() for one in tensor.placements):
        msg = f"{where} is a sum that was not made yet, {tensor.placements}; redistribute it before it is saved"
        raise StateError(msg)
    as_bytes(local_part(tensor), where)  # refuses what has no exact form, before anything is written
    plain = name = ".".join(path) or "value"
    count = 1
    while name in found:
        count += 1
        name = f"{plain}#{count}"
    found[name] = tensor
    return name


def _substitute(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Put the tensors themselves where they are referred to; typed JSON lets through what is neither list nor dict."""
    if isinstance(tree, list):
        return [_substitute(part, tensors) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if is_reference(tree):
        return tensors[tree[TENSOR]]
    return {key: _substitute(part, tensors) for key, part in tree.items()}
