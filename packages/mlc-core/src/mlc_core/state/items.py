"""What a checkpoint holds, item by item: the model, the optimizer, and whatever else has a state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.state.tree import TensorSink, encode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from mlc_core.protocols import TensorBytes

__all__ = ["ItemState", "bare_model", "collect", "match_names", "model_state", "plain_name"]

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
COMPILED = "_orig_mod."  # what torch.compile puts before every name
PARALLEL = "module."  # what DistributedDataParallel and DataParallel do
WRAPPERS = {  # where the classes come from, and what they call the model inside; by name, so that torch stays out
    "torch._dynamo.eval_frame": "_orig_mod",
    "torch.nn.parallel.data_parallel": "module",
    "torch.nn.parallel.distributed": "module",
}


@attrs.frozen
class ItemState:
    """The state of one item, ready to be written."""

    tree: Any
    """Typed JSON, with references into *tensors*."""
    tensors: Mapping[str, TensorBytes]


def collect(items: Mapping[str, object]) -> dict[str, ItemState]:
    """Return the state of each item: its `state_dict()`, or the item itself where it is plain data.

    Raises:
        ConfigurationError: If an item's name cannot name a file.
        StateError: If something in an item would be lost.
    """
    states = {}
    for name, item in items.items():
        if not NAME.fullmatch(name) or name in {"manifest", "state"}:
            msg = f"item name {name!r} must be a lower-case word that is not `manifest` or `state`, like `optimizer`"
            raise ConfigurationError(msg)
        sink = TensorSink()
        value = model_state(item) if name == "model" else _state_of(item)
        states[name] = ItemState(encode(value, sink, item=name), sink.tensors)
    return states


def plain_name(key: str) -> str:
    """Return a parameter's name without what `torch.compile` puts before it."""
    return key.replace(COMPILED, "")


def bare_model(model: Any) -> Any:
    """Return what `torch.compile`, `DistributedDataParallel` and `DataParallel` wrapped, or *model* itself."""
    attributes = [WRAPPERS[kind.__module__] for kind in type(model).__mro__ if kind.__module__ in WRAPPERS]
    return bare_model(getattr(model, attributes[0])) if attributes else model


def model_state(model: Any) -> Any:
    """Return the model's state by plain parameter names."""
    state = _state_of(bare_model(model))
    if not isinstance(state, Mapping):
        return state
    return {plain_name(key) if isinstance(key, str) else key: value for key, value in state.items()}


def match_names(own: Collection[str], saved: Collection[str]) -> dict[str, str]:
    """Return the names that a model has for *saved* ones: each by itself, or by what it is without a wrapper's prefix.

    Only a prefix that all names of one side share is taken off, and only if no name fits as it is and some fit
    without it, so that a model which has a part called `module` is not taken for a wrapper.
    """
    plain = {key: plain_name(key) for key in saved}
    present = set(own)
    if not present.intersection(plain.values()):
        bare = {key: name.removeprefix(PARALLEL) for key, name in plain.items()}
        if _all_wrapped(plain.values()) and present.intersection(bare.values()):
            return bare
        wrapped = {key: PARALLEL + name for key, name in plain.items()}
        if _all_wrapped(own) and present.intersection(wrapped.values()):
            return wrapped
    return plain


def _all_wrapped(names: Iterable[str]) -> bool:
    return all(name.startswith(PARALLEL) for name in names)


def _state_of(item: Any) -> Any:
    return item.state_dict() if hasattr(item, "state_dict") else item
