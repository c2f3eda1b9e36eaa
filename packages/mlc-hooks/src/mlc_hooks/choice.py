"""Which plugins may take part: what `MLC_PLUGINS` and `MLC_PLUGINS_STRICT` say."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlc_hooks.errors import PluginChoiceError
from mlc_hooks.hints import known_names, nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["Choice", "read_choice", "read_strict"]


@dataclass(frozen=True)
class Choice:
    """A rule over plugin names: *only* those, or all of them, minus *without*."""

    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()

    def admits(self, name: str) -> bool:
        """Say whether the plugin *name* may take part."""
        return name not in self.without and (self.only is None or name in self.only)

    def check(self, *, installed: Collection[str], fixed: Collection[str]) -> None:
        """Refuse a choice that names what cannot be chosen.

        Raises:
            PluginChoiceError: If a name is not *installed*, or names one of the *fixed* packages that define hooks.
        """
        for name in sorted((self.only or frozenset()) | self.without):
            if name in fixed:
                msg = f"MLC_PLUGINS names {name!r}, which defines hooks and always takes part; leave it out"
                raise PluginChoiceError(msg)
            if name not in installed:
                choices = set(installed).difference(fixed)
                hint = f"{nearest(name, choices)} {known_names('Installed', choices)}"
                msg = f"MLC_PLUGINS names {name!r}, which is not an installed plugin.{hint}"
                raise PluginChoiceError(msg)


def read_choice(environment: Mapping[str, str] = os.environ) -> Choice:
    """Read `MLC_PLUGINS`: unset is all, empty is none, `a,b` is only those, `-a` is all but.

    Raises:
        PluginChoiceError: If names with and without a minus are mixed.
    """
    text = environment.get("MLC_PLUGINS")
    if text is None:
        return Choice()
    names = [name.strip() for name in text.split(",") if name.strip()]
    without = frozenset(name[1:].strip() for name in names if name.startswith("-"))
    only = frozenset(name for name in names if not name.startswith("-"))
    if without and only:
        msg = f"MLC_PLUGINS={text!r} mixes names to use with names to leave out; give one kind"
        raise PluginChoiceError(msg)
    return Choice(without=without) if without else Choice(only=only)


def read_strict(environment: Mapping[str, str] = os.environ) -> bool:
    """Read `MLC_PLUGINS_STRICT`: `1` raises where a plugin would be set aside, `0` or unset does not.

    Raises:
        PluginChoiceError: If it is anything else.
    """
    text = environment.get("MLC_PLUGINS_STRICT", "0")
    if text not in {"", "0", "1"}:
        msg = f"MLC_PLUGINS_STRICT={text!r} must be 1 or 0"
        raise PluginChoiceError(msg)
    return text == "1"
