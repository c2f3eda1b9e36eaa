"""Facts about plugins: who is here, what they offer, and who was set aside and why."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Broken", "Offer", "Plugin"]


@dataclass(frozen=True)
class Plugin:
    """A plugin that is in use."""

    name: str
    """The entry point's name, which is the distribution's name."""
    distribution: str
    """Name and version of the distribution it came with, or where it was registered."""
    hooks: tuple[str, ...]
    """The hooks that it answers."""
    unknown_hooks: tuple[str, ...]
    """Functions marked as hooks that no installed package defines: a typing error, or its host is not installed."""


@dataclass(frozen=True)
class Broken:
    """A plugin that was set aside."""

    name: str
    distribution: str
    reason: str
    """What went wrong, in one line."""
    error: BaseException

    def __str__(self) -> str:
        """Return one line for messages and lists."""
        return f"{self.name} ({self.distribution}): {self.reason}"


@dataclass(frozen=True)
class Offer:
    """One name that a plugin offers, with the factory behind it."""

    name: str
    plugin: str
    factory: Callable[..., Any]

    @property
    def full_name(self) -> str:
        """The spelling that is never ambiguous."""
        return f"{self.plugin}:{self.name}"

    @property
    def summary(self) -> str:
        """The first line of the factory's docstring, or nothing."""
        factory = self.factory
        while isinstance(factory, partial):  # or its summary would be that of `partial`
            factory = factory.func
        return (inspect.getdoc(factory) or "").partition("\n")[0]
