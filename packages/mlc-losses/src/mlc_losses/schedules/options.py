"""What the options of schedules may be, and how they are told in plain data."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import attrs

from mlc_losses.errors import LossConfigError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "copy_plain",
    "keep_copies",
    "no_state",
    "plain_options",
    "require_count",
    "require_integer",
    "require_keys",
    "require_text",
]


def require_count(name: str, value: object, *, low: int = 0) -> int:
    """Return *value* if it is an integer of at least *low*.

    Raises:
        LossConfigError: If it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        msg = f"{name} is {value!r}; give an integer of at least {low}"
        raise LossConfigError(msg)
    return int(value)


def require_integer(name: str, value: object) -> int:
    """Return *value* if it is an integer.

    Raises:
        LossConfigError: If it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        msg = f"{name} is {value!r}; give an integer"
        raise LossConfigError(msg)
    return int(value)


def require_text(name: str, value: object) -> str:
    """Return *value* if it is text.

    Raises:
        LossConfigError: If it is anything else.
    """
    if not isinstance(value, str):
        msg = f"{name} is {value!r}; give text"
        raise LossConfigError(msg)
    return value


def copy_plain(value: Any) -> Any:
    """Return *value* with copies of all mappings and lists in it, and NumPy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {key: copy_plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [copy_plain(one) for one in value]
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def keep_copies(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Make an attrs class keep `copy_plain` of its options: what their owner writes to them later is not followed."""
    return [one.evolve(converter=copy_plain) if one.init else one for one in fields]


def plain_options(schedule: attrs.AttrsInstance) -> dict[str, Any]:
    """Return what the attrs class *schedule* was made with, as JSON has it."""
    fields = attrs.fields(type(schedule))
    return {one.name: _plain(getattr(schedule, one.name)) for one in fields if one.init}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if attrs.has(type(value)):
        return plain_options(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)  # NumPy's numbers are not JSON's


def require_keys(name: str, state: Mapping[str, Any], keys: Collection[str]) -> None:
    """Refuse a *state* for the schedule called *name* that does not have exactly *keys*.

    Raises:
        LossConfigError: Naming both sides.
    """
    if set(state) != set(keys):
        msg = (
            f"the state for schedule {name!r} has {sorted(state)}, where {sorted(keys)} is remembered; load what "
            f"state_dict returned"
        )
        raise LossConfigError(msg)


def no_state(name: str, state: Mapping[str, Any]) -> None:
    """Refuse a *state* for the schedule called *name*, which remembers nothing.

    Raises:
        LossConfigError: If *state* holds something.
    """
    require_keys(name, state, ())
