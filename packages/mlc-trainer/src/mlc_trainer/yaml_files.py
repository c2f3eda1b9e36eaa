"""YAML as configurations need it: the core schema of YAML 1.2, no tags, no key twice."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlc_trainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["load_yaml"]

DEPTH = 100
"""How deep tables and lists may lie in each other: far more than any configuration needs."""
NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
INT = re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
"""YAML 1.2.2, section 10.3.2: where YAML 1.1 reads `no` as false and `1e-3` as a text, this reads what is written."""


def load_yaml(text: str) -> Any:
    """Return what *text* holds.

    Raises:
        ConfigError: If PyYAML is not installed; names the extra that brings it.
        ValueError: If it is no YAML, a key is there twice or is no text, it has a tag, an anchor or an alias, or is
            nested more than 100 deep.
    """
    try:
        yaml = import_module("yaml")
    except ModuleNotFoundError as error:
        msg = "YAML needs PyYAML, which is not installed: pip install 'mlc-trainer[yaml]', or write TOML or JSON"
        raise ConfigError(msg) from error
    try:
        _refuse_what_is_not_plain(yaml.parse(text, Loader=yaml.SafeLoader), yaml)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return None if node is None else _construct(node)


def _refuse_what_is_not_plain(events: Iterable[Any], yaml: Any) -> None:
    depth = 0
    for event in events:  # as they are read: nothing behind what is refused is looked at
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            msg = f"{_place(event)}: tables and lists lie more than {DEPTH} deep in each other"
            raise ValueError(msg)
        what = None
        if isinstance(event, yaml.AliasEvent):
            what = f"the alias *{event.anchor}"
        elif getattr(event, "anchor", None) is not None:
            what = f"the anchor &{event.anchor}"
        elif getattr(event, "tag", None) is not None:
            what = f"the tag {event.tag}"
        if what is not None:
            msg = f"{_place(event)}: {what} is more than a configuration needs; write the value itself"
            raise ValueError(msg)


def _construct(node: Any) -> Any:
    if node.id == "mapping":
        return _construct_mapping(node)
    if node.id == "sequence":
        return [_construct(one) for one in node.value]
    return node.value if node.style is not None else _read_plain(node.value)  # what is quoted is a text


def _construct_mapping(node: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value in node.value:
        key = _construct(key_node)
        if not isinstance(key, str):
            msg = f"{_place(key_node)}: the key {key!r} is no text; put it in quotes"
            raise ValueError(msg)  # noqa: TRY004 - what is wrong is the file
        if key in found:
            msg = f"{_place(key_node)}: the key {key!r} is there twice"
            raise ValueError(msg)
        found[key] = _construct(value)
    return found


def _read_plain(text: str) -> Any:
    if NULL.match(text):
        return None
    if BOOL.match(text):
        return text.lower() == "true"
    if INT.match(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if FLOAT.match(text):
        return float(re.sub(r"\.(?=[inIN])", "", text))  # Python's infinity has no dot
    return text


def _place(thing: Any) -> str:
    return f"line {thing.start_mark.line + 1}"
