"""Typed JSON: what JSON cannot say is said by an object with one key that begins with a dollar sign."""

from __future__ import annotations

import base64
import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from mlc_core.errors import CorruptCheckpointError, StateError
from mlc_core.state import frameworks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_core.protocols import TensorBytes

__all__ = ["TensorSink", "decode", "encode"]

JSON_INTEGERS = range(-(2**63), 2**64)
DEEPEST = 200  # well within what JSON readers and this module's recursion stand


class TensorSink:
    """The tensors met while encoding one item, each under a name of its own; tied ones are kept once."""

    def __init__(self) -> None:
        self.tensors: dict[str, TensorBytes] = {}
        self._tied: dict[tuple[object, ...], str] = {}

    def put(self, value: Any, path: tuple[str, ...], where: str) -> str:
        """Keep the tensor or array *value* and return its name."""
        if not frameworks.is_tensor(value):
            return self._name(frameworks.array_to_bytes(value, where), path)
        key = frameworks.storage_key(value) if value.layout is not None and not value.is_sparse else None
        if key is None or key not in self._tied:
            name = self._name(frameworks.tensor_to_bytes(value, where), path)
            if key is None:
                return name
            self._tied[key] = name
        return self._tied[key]

    def _name(self, tensor: TensorBytes, path: tuple[str, ...]) -> str:
        plain = name = ".".join(path) or "value"
        count = 1
        while name in self.tensors:
            count += 1
            name = f"{plain}#{count}"
        self.tensors[name] = tensor
        return name


def encode(value: Any, sink: TensorSink, *, item: str, path: tuple[str, ...] = ()) -> Any:
    """Return *value* as typed JSON, its tensors put into *sink*.

    Raises:
        StateError: If something in it would be lost; names the place, the type and the way out.
    """
    where = ".".join((item, *path))
    if len(path) > DEEPEST:
        msg = f"{item} is nested more than {DEEPEST} deep at {where[:80]}…; does it hold itself?"
        raise StateError(msg)
    kind = type(value)
    if kind in {type(None), bool, str}:
        return value
    if frameworks.is_tensor(value):
        return {"$tensor": sink.put(value, path, where)}
    if frameworks.is_array(value):
        tag = "$array" if hasattr(value, "__setitem__") else "$scalar"
        return {tag: sink.put(value, path, where)}

    def inside(part: Any, name: object) -> Any:
        return encode(part, sink, item=item, path=(*path, str(name)))

    if kind in ENCODERS:
        return ENCODERS[kind](value, inside)
    if isinstance(value, PurePath):
        return {"$path": str(value)}
    if f"{kind.__module__}.{kind.__name__}" in TORCH_VALUES:
        return TORCH_VALUES[f"{kind.__module__}.{kind.__name__}"](value)
    msg = (
        f"{where} is a {kind.__module__}.{kind.__qualname__}, which a checkpoint cannot hold without running code on "
        "load; give a state_dict() of numbers, strings, tensors, lists and dictionaries"
    )
    raise StateError(msg)


Inside = Callable[[Any, object], Any]


def _encode_int(value: int, _: Inside) -> Any:
    return value if value in JSON_INTEGERS else {"$int": str(value)}


def _encode_float(value: float, _: Inside) -> Any:
    return value if math.isfinite(value) else {"$float": repr(value)}


def _encode_list(value: list[Any], inside: Inside) -> list[Any]:
    return [inside(part, position) for position, part in enumerate(value)]


def _encode_dict(value: dict[Any, Any], inside: Inside) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: inside(part, key) for key, part in value.items()}
    return _encode_pairs("$dict")(value, inside)


def _encode_pairs(tag: str) -> Callable[[Any, Inside], Any]:
    return lambda value, inside: {tag: [[inside(key, "key"), inside(part, key)] for key, part in value.items()]}


def _encode_set(tag: str) -> Callable[[Any, Inside], Any]:
    return lambda value, inside: {tag: [inside(part, "member") for part in sorted(value, key=repr)]}


ENCODERS: dict[type, Callable[[Any, Inside], Any]] = {
    int: _encode_int,
    float: _encode_float,
    complex: lambda value, inside: {"$complex": [inside(value.real, "real"), inside(value.imag, "imag")]},
    bytes: lambda value, _: {"$bytes": base64.b64encode(value).decode("ascii")},
    list: _encode_list,
    tuple: lambda value, inside: {"$tuple": _encode_list(value, inside)},
    dict: _encode_dict,
    OrderedDict: _encode_pairs("$ordered"),
    Counter: _encode_pairs("$counter"),
    set: _encode_set("$set"),
    frozenset: _encode_set("$frozenset"),
}
TORCH_VALUES: dict[str, Callable[[Any], Any]] = {  # by name, so that torch need not be imported to compare
    "torch.dtype": lambda value: {"$dtype": str(value).removeprefix("torch.")},
    "torch.device": lambda value: {"$device": str(value)},
    "torch.Size": lambda value: {"$size": [int(one) for one in value]},
}


def decode(tree: Any, tensors: Mapping[str, TensorBytes], *, copy: bool) -> Any:
    """Return the value that *tree* stands for.

    Args:
        tree: Typed JSON.
        tensors: The tensors of the item.
        copy: Give tensors memory of their own; else they share that of *tensors*.

    Raises:
        CorruptCheckpointError: If *tree* was not made by `encode`.
    """
    if isinstance(tree, list):
        return [decode(part, tensors, copy=copy) for part in tree]
    if not isinstance(tree, dict):
        return tree
    tag = next(iter(tree), "")
    if len(tree) != 1 or not tag.startswith("$"):
        return {key: decode(part, tensors, copy=copy) for key, part in tree.items()}
    content = tree[tag]
    try:
        if tag in {"$tensor", "$array", "$scalar"}:
            return _decode_tensor(tag, tensors[content], copy=copy)
        if tag in MAKERS:
            return MAKERS[tag](decode(content, tensors, copy=copy))
    except CorruptCheckpointError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        msg = f"the state holds {tag} with unusable content ({type(error).__name__}: {error})"
        raise CorruptCheckpointError(msg) from error
    msg = f"the state holds {tag!r}, which this version of mlc-core does not know; a newer one may"
    raise CorruptCheckpointError(msg)


def _decode_tensor(tag: str, raw: TensorBytes, *, copy: bool) -> Any:
    if tag == "$tensor":
        tensor = frameworks.bytes_to_tensor(raw)
        return tensor.clone() if copy else tensor
    array = frameworks.bytes_to_array(raw)
    return array if tag == "$array" else array[()]


def _dtype(name: str) -> Any:
    import torch

    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        msg = f"{name!r} is no dtype"
        raise TypeError(msg)
    return found


def _device(name: str) -> Any:
    import torch

    return torch.device(name)


def _size(sizes: list[int]) -> Any:
    import torch

    return torch.Size(sizes)


MAKERS: dict[str, Callable[[Any], Any]] = {
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$complex": lambda parts: complex(*parts),
    "$counter": lambda pairs: Counter(dict(pairs)),
    "$device": _device,
    "$dict": lambda pairs: {key: value for key, value in pairs},  # noqa: C416 - pairs are lists, and exactly two long
    "$dtype": _dtype,
    "$float": float,
    "$frozenset": frozenset,
    "$int": int,
    "$ordered": lambda pairs: OrderedDict((key, value) for key, value in pairs),
    "$path": Path,
    "$set": set,
    "$size": _size,
    "$tuple": tuple,
}
