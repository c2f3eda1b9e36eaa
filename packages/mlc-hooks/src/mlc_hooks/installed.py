"""What the metadata of installed distributions says about plugins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.metadata import Distribution
    from types import ModuleType

__all__ = ["Found", "describe_distribution", "find_plugins"]

GROUPS = ("mlc.specs", "mlc")


@dataclass(frozen=True)
class Found:
    """What one distribution says about one plugin; nothing is imported yet."""

    name: str
    distribution: str
    """Name and version."""
    owner: str
    """The name that the plugin must have: its distribution's."""
    specs: tuple[str, ...]
    """What its entry points in group `mlc.specs` name: one module that defines hooks, or none."""
    hooks: tuple[str, ...]
    """What its entry points in group `mlc` name: one module that answers hooks, or none."""

    def load(self) -> tuple[ModuleType | None, ModuleType | None]:
        """Import the modules that define hooks and that answer them.

        Raises:
            ValueError: If the name is not the distribution's, or what it names is not one module.
        """
        if not self.owner:
            msg = "the metadata of its distribution cannot be read; install it again"
            raise ValueError(msg)
        if self.name != self.owner:
            msg = f"its entry point must be named {self.owner!r}, as its distribution is, not {self.name!r}"
            raise ValueError(msg)
        return _import_one(self.specs), _import_one(self.hooks)


def find_plugins() -> Sequence[Found]:
    """Return what installed distributions say about plugins, sorted, so that nothing depends on `sys.path`.

    A distribution that is on `sys.path` twice is there once: the first hides the others, as it does for `import`.
    """
    from importlib import metadata  # up to 30 ms that a run with built-in names only never pays

    first: dict[str, Distribution | None] = {}
    modules: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for group in GROUPS:
        for entry in metadata.entry_points(group=group):
            owner, version = _identify(entry.dist)
            if not owner or first.setdefault(f"{group} {owner}", entry.dist) is entry.dist:
                key = (entry.name, f"{owner or 'unknown'} {version}", owner)
                modules.setdefault(key, {one: [] for one in GROUPS})[group].append(entry.value)
    return [Found(*key, *(tuple(those[group]) for group in GROUPS)) for key, those in sorted(modules.items())]


def describe_distribution(name: str) -> str:
    """Return *name* with its installed version, or say that it is not installed."""
    from importlib import metadata

    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return "not installed as a distribution"


def _identify(distribution: Distribution | None) -> tuple[str, str]:
    """Return the name, normalised as packaging does, and the version; an empty name where it cannot be read."""
    try:
        assert distribution is not None
        return re.sub(r"[-_.]+", "-", distribution.name).lower(), distribution.version
    except Exception:  # half of an uninstalled distribution has no metadata, which every Python says in its own way
        return "", "(its metadata cannot be read)"


def _import_one(modules: Sequence[str]) -> ModuleType | None:
    if len(modules) > 1:
        msg = f"it has more than one entry point in one group: {', '.join(modules)}"
        raise ValueError(msg)
    for module in modules:
        if ":" in module:
            msg = f"its entry point must name a module, not {module!r}"
            raise ValueError(msg)
        return import_module(module)
    return None
