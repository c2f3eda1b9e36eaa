"""The references to tensors in typed JSON. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TENSOR", "is_reference", "names_in"]

TENSOR = "$tensor"


def is_reference(tree: dict[str, Any]) -> bool:
    """Say whether *tree* stands for a tensor."""
    return len(tree) == 1 and isinstance(tree.get(TENSOR), str)


def names_in(tree: Any) -> Iterator[str]:
    """Yield the names of the tensors that *tree* refers to."""
    if isinstance(tree, list):
        for part in tree:
            yield from names_in(part)
    elif isinstance(tree, dict):
        if is_reference(tree):
            yield tree[TENSOR]
        else:
            for part in tree.values():
                yield from names_in(part)
