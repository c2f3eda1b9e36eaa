"""What options must be, checked when a strategy is made and not at the first save."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from mlc_core.errors import ConfigurationError

if TYPE_CHECKING:
    import attrs

__all__ = ["Unit", "at_least_one", "known_unit", "not_negative", "positive", "read_names"]

Unit = Literal["epochs", "steps"]


def at_least_one(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a *value* that counts nothing."""
    if not isinstance(value, int) or value < 1:
        msg = f"{attribute.name}={value!r} must be 1 or more"
        raise ConfigurationError(msg)


def positive(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a *value* that is not above zero and finite."""
    if not isinstance(value, (int, float)) or not 0 < value < math.inf:
        msg = f"{attribute.name}={value!r} must be a number above 0"
        raise ConfigurationError(msg)


def not_negative(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a *value* below zero, and one that is not finite."""
    if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        msg = f"{attribute.name}={value!r} must be a number and not below 0"
        raise ConfigurationError(msg)


def known_unit(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what is neither epochs nor steps."""
    if value not in {"epochs", "steps"}:
        msg = f"{attribute.name}={value!r} must be 'epochs' or 'steps'"
        raise ConfigurationError(msg)


def read_names(value: Any) -> tuple[str, ...]:
    """Return the names in *value*.

    Raises:
        ConfigurationError: If it is one text, whose letters would be taken for names.
    """
    if isinstance(value, str):
        msg = f"{value!r} is one name where a list of names belongs; write [{value!r}]"
        raise ConfigurationError(msg)
    return tuple(map(str, value))
