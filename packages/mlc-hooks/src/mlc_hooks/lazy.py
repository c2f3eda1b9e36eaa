"""Packages whose rooms are imported when somebody enters: `import mlc_x` costs nothing, `mlc --help` stays quick."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["lazy_exports"]


def lazy_exports(package: str, rooms: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for the `__init__` of *package*, as PEP 562 has them.

    Args:
        package: Its `__name__`.
        rooms: For each module in it, the names that the package exports from there, with blanks between. Type checkers
            want the same imports under `if TYPE_CHECKING:`, and `__all__` spelled out.
    """
    home = {name: room for room, names in rooms.items() for name in names.split()}
    module = sys.modules[package]

    def find(name: str) -> Any:
        if name not in home:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        found = getattr(import_module(f"{package}.{home[name]}"), name)
        setattr(module, name, found)  # the next one who asks does not come here
        return found

    return find, lambda: sorted({*vars(module), *home})
