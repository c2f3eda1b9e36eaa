"""What a checkpoint holds, item by item: the model, the optimizer, and whatever else has a state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.state.tree import TensorSink, encode

if TYPE_CHECKING:
    from mlc_core.protocols import TensorBytes

__all__ = ["ItemState", "collect", "model_state", "plain_name"]

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
COMPILED = "_orig_mod."  # what torch.compile puts before every name


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


def model_state(model: Any) -> Any:
    """Return the model's state by plain parameter names."""
    state = _state_of(model)
    if not isinstance(state, Mapping):
        return state
    return {plain_name(key) if isinstance(key, str) else key: value for key, value in state.items()}


def _state_of(item: Any) -> Any:
    return item.state_dict() if hasattr(item, "state_dict") else item
