"""What options must be, checked when a policy is made and not at the first save."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mlc_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection

    import attrs

__all__ = ["at_least_one", "check_length", "not_negative", "one_of"]


def at_least_one(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a *value* that counts nothing."""
    if not isinstance(value, int) or value < 1:
        msg = f"{attribute.name}={value!r} must be 1 or more"
        raise ConfigurationError(msg)


def not_negative(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a *value* below zero, and one that is not finite."""
    if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        msg = f"{attribute.name}={value!r} must be a number and not below 0"
        raise ConfigurationError(msg)


def check_length(name: str, value: Any, *, whole: bool) -> None:
    """Refuse a length that nothing fits into, or part of an epoch or a step.

    Raises:
        ConfigurationError: If that is so.
    """
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not 0 < value < math.inf:
        msg = f"{name}={value!r} must be a {'whole ' if whole else ''}number above 0"
        raise ConfigurationError(msg)


def one_of(name: str, value: Any, known: Collection[str]) -> None:
    """Refuse a *value* that is not *known*.

    Raises:
        ConfigurationError: If that is so.
    """
    if value not in known:
        msg = f"{name}={value!r} must be {' or '.join(map(repr, known))}"
        raise ConfigurationError(msg)
