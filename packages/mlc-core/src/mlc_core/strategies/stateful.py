"""The half of the protocol that strategies with a memory share."""

from __future__ import annotations

from typing import Any

import attrs

from mlc_core.strategies.combined import Composable

__all__ = ["Stateful", "number"]


def number(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a memory that is neither a number nor None."""
    if value is not None and not isinstance(value, (int, float)):
        msg = f"{attribute.name}={value!r} is no number"
        raise TypeError(msg)


class Stateful(Composable):
    """Remembers plain numbers: the fields of the class that are no options, `init=False`."""

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers."""
        return {_name(field): getattr(self, field.name) for field in _memory(self)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from *state*.

        Raises:
            KeyError, TypeError: If something is missing or no number. Nothing was changed.
        """
        taken = [(field, state[_name(field)]) for field in _memory(self)]
        for field, value in taken:
            if field.validator is not None:
                field.validator(self, field, value)
        for field, value in taken:
            setattr(self, field.name, value)


def _memory(strategy: Any) -> list[attrs.Attribute[Any]]:
    return [field for field in attrs.fields(type(strategy)) if not field.init]


def _name(field: attrs.Attribute[Any]) -> str:
    return field.name.removeprefix("_")
