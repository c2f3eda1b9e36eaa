"""Typed JSON: what JSON cannot say is said by an object with one key that begins with a dollar sign."""

from __future__ import annotations

import base64
import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_core.errors import ConfigurationError, CorruptCheckpointError, StateError
from mlc_core.state import frameworks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core.protocols import TensorBytes

__all__ = ["TensorSink", "decode", "encode"]

JSON_INTEGERS = range(-(2**63), 2**64)
DEEPEST = 80  # each level is up to three of JSON, and writers of JSON stop at 254
RESERVED = "__metadata__"  # what safetensors calls the part of a header that is no tensor


class TensorSink:
    """The tensors met while encoding one item, each under a name of its own; tied ones are kept once."""

    def __init__(self) -> None:
        self.tensors: dict[str, TensorBytes] = {}
        self.tensor_types = frameworks.tensor_types()
        self.plain_types = frameworks.plain_types()
        self._met: dict[int, list[tuple[Any, str]]] = {}

    def put_array(self, array: Any, place: _Place) -> str:
        """Keep the NumPy *array* or scalar and return its name."""
        return self._name(frameworks.array_to_bytes(array, str(place)), place.path)

    def put_tensor(self, tensor: Any, place: _Place, *names: str) -> str:
        """Keep the torch *tensor*, which lies at *place* or below it, and return its name, or that of its twin."""
        found = frameworks.tensor_to_bytes(tensor)
        path = (*place.path, *names)
        if found is None:
            raise frameworks.unfit_error(tensor, str(_Place(self, place.item, path)))
        if not found.size:
            return self._name(found, path)
        address = tensor.data_ptr()
        here = self._met.get(address)
        if here is None:
            here = self._met[address] = []
        for other, name in here:
            if frameworks.are_tied(tensor, other):
                return name
        name = self._name(found, path)
        here.append((tensor, name))
        return name

    def _name(self, tensor: TensorBytes, path: tuple[str, ...]) -> str:
        plain = name = ".".join(path) or "value"
        count = 1
        while name in self.tensors or name == RESERVED:
            count += 1
            name = f"{plain}#{count}"
        self.tensors[name] = tensor
        return name


def encode(value: Any, sink: TensorSink, *, item: str) -> Any:
    """Return *value*, the state of *item*, as typed JSON, its tensors put into *sink*.

    Raises:
        StateError: If something in it would be lost; names the place, the type and the way out.
    """
    return _encode(value, _Place(sink, item))


class _Place:
    """Where in an item a value lies."""

    __slots__ = ("item", "path", "sink")

    def __init__(self, sink: TensorSink, item: str, path: tuple[str, ...] = ()) -> None:
        self.sink = sink
        self.item = item
        self.path = path

    def __str__(self) -> str:
        return ".".join((self.item, *self.path)).encode("ascii", "backslashreplace").decode("ascii")

    def inside(self, part: Any, name: object) -> Any:
        """Encode a *part* of what lies here."""
        if type(part) in self.sink.plain_types:  # the quick way for ten thousand tensors
            return {"$tensor": self.sink.put_tensor(part, self, str(name))}
        return _encode(part, _Place(self.sink, self.item, (*self.path, str(name))))

    def check_text(self, text: str) -> str:
        """Return *text* if a file can hold it."""
        if text.isascii():
            return text
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            msg = f"{self} holds text that is not valid Unicode, {text[:40]!a}; save its bytes"
            raise StateError(msg) from error
        return text


def _encode(value: Any, place: _Place) -> Any:
    if len(place.path) > DEEPEST:
        msg = f"{place.item} is nested more than {DEEPEST} deep at {str(place)[:80]}…; does it hold itself?"
        raise StateError(msg)
    kind = type(value)
    encoder = ENCODERS.get(kind)
    if encoder is not None:
        return encoder(value, place)
    if isinstance(value, place.sink.tensor_types):
        return {"$tensor": place.sink.put_tensor(value, place)}
    if frameworks.is_array(value):
        tag = "$array" if hasattr(value, "__setitem__") else "$scalar"
        return {tag: place.sink.put_array(value, place)}
    encoder = TORCH_ENCODERS.get(f"{kind.__module__}.{kind.__name__}")
    if encoder is None:
        msg = (
            f"{place} is a {kind.__module__}.{kind.__qualname__}, which a checkpoint cannot hold without running code "
            "on load; give a state_dict() of numbers, strings, tensors, lists and dictionaries"
        )
        raise StateError(msg)
    return encoder(value, place)


Encoder = Callable[[Any, _Place], Any]


def _as_it_is(value: Any, _: _Place) -> Any:
    return value


def _encode_text(value: str, place: _Place) -> str:
    return place.check_text(value)


def _encode_int(value: int, _: _Place) -> Any:
    return value if value in JSON_INTEGERS else {"$int": hex(value)}  # Python refuses long decimal ones


def _encode_float(value: float, _: _Place) -> Any:
    return value if math.isfinite(value) else {"$float": repr(value)}


def _encode_list(value: Sequence[Any], place: _Place) -> list[Any]:
    return [place.inside(part, position) for position, part in enumerate(value)]


def _encode_dict(value: dict[Any, Any], place: _Place) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {place.check_text(key): place.inside(part, key) for key, part in value.items()}
    return _encode_pairs("$dict")(value, place)


def _encode_pairs(tag: str) -> Encoder:
    return lambda value, place: {
        tag: [[place.inside(key, "key"), place.inside(part, key)] for key, part in value.items()]
    }


def _encode_set(tag: str) -> Encoder:
    return lambda value, place: {tag: [place.inside(part, "member") for part in sorted(value, key=repr)]}


ENCODERS: dict[type, Encoder] = {
    type(None): _as_it_is,
    bool: _as_it_is,
    str: _encode_text,
    int: _encode_int,
    float: _encode_float,
    complex: lambda value, place: {"$complex": [place.inside(value.real, "real"), place.inside(value.imag, "imag")]},
    bytes: lambda value, _: {"$bytes": base64.b64encode(value).decode("ascii")},
    list: _encode_list,
    tuple: lambda value, place: {"$tuple": _encode_list(value, place)},
    dict: _encode_dict,
    OrderedDict: _encode_pairs("$ordered"),
    Counter: _encode_pairs("$counter"),
    set: _encode_set("$set"),
    frozenset: _encode_set("$frozenset"),
    type(Path()): lambda value, place: {"$path": place.check_text(str(value))},
}
TORCH_ENCODERS: dict[str, Encoder] = {  # by name, so that torch need not be imported to compare
    "torch.dtype": lambda value, _: {"$dtype": str(value).removeprefix("torch.")},
    "torch.device": lambda value, _: {"$device": str(value)},
    "torch.Size": lambda value, _: {"$size": [int(one) for one in value]},
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
    except (ConfigurationError, CorruptCheckpointError):
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
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
    torch = frameworks.require("torch")
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        msg = f"{name!r} is no dtype"
        raise TypeError(msg)
    return found


def _device(name: str) -> Any:
    return frameworks.require("torch").device(name)


def _size(sizes: list[int]) -> Any:
    return frameworks.require("torch").Size(sizes)


MAKERS: dict[str, Callable[[Any], Any]] = {
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$complex": lambda parts: complex(*parts),
    "$counter": lambda pairs: Counter(dict(pairs)),
    "$device": _device,
    "$dict": lambda pairs: {key: value for key, value in pairs},  # noqa: C416 - pairs are lists, and exactly two long
    "$dtype": _dtype,
    "$float": float,
    "$frozenset": frozenset,
    "$int": lambda digits: int(digits, 16),
    "$ordered": lambda pairs: OrderedDict((key, value) for key, value in pairs),
    "$path": Path,
    "$set": set,
    "$size": _size,
    "$tuple": tuple,
}
