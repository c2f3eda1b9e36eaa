"""Factories that know the options of a class without importing it."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

__all__ = ["LazyClass"]


class LazyClass:
    """A factory of a class that is imported when it is first called, or asked for its options.

    Args:
        place: Where the class is: `module:name`.
        summary: What it is, for lists.
        fixed: Options that this factory decides and callers cannot.
        defaults: Options that differ from the defaults of the class.
    """

    def __init__(
        self, place: str, summary: str, *, fixed: dict[str, Any] | None = None, defaults: dict[str, Any] | None = None
    ) -> None:
        self.place = place
        self.fixed = fixed or {}
        self.defaults = defaults or {}
        self.__doc__ = summary

    def __call__(self, **options: Any) -> Any:
        """Make one."""
        return self._find()(**{**self.defaults, **options, **self.fixed})

    @property
    def __signature__(self) -> inspect.Signature:
        """The options that callers may give: those of the class and of the classes it hands `**options` on to."""
        found: dict[str, inspect.Parameter] = {}
        for one in self._find().__mro__:
            if "__init__" not in vars(one):
                continue
            parameters = inspect.signature(vars(one)["__init__"]).parameters.values()
            for parameter in parameters:
                if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in self.fixed:
                    default = self.defaults.get(parameter.name, parameter.default)
                    found.setdefault(parameter.name, parameter.replace(default=default))
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
                break
        return inspect.Signature(list(found.values()))

    def _find(self) -> type:
        module, name = self.place.split(":")
        found: type = getattr(import_module(module), name)
        return found
