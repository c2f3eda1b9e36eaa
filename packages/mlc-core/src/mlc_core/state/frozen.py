"""Which tensors of an item do not train, so that their bytes need to be written once."""

from __future__ import annotations

from typing import Any

from mlc_core.state.items import bare_model, plain_name

__all__ = ["frozen_names"]


def frozen_names(item: Any) -> frozenset[str]:
    """Return the names of the parameters of *item* that need no gradient; nothing for what is no module.

    Buffers are not among them: BatchNorm goes on counting in a frozen backbone.
    """
    named = getattr(bare_model(item), "named_parameters", None)
    if named is None:
        return frozenset()
    return frozenset(plain_name(name) for name, parameter in named() if not parameter.requires_grad)
