"""Which modules of a model train and which were frozen by `eval()`, kept and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

__all__ = ["modes_of", "restore_modes"]


def modes_of(model: nn.Module) -> Sequence[tuple[nn.Module, bool]]:
    """Return each module of *model*, and whether it is in training mode."""
    return [(one, one.training) for one in model.modules()]


def restore_modes(modes: Sequence[tuple[nn.Module, bool]]) -> None:
    """Put each module back into the mode it was in."""
    for module, training in modes:
        module.training = training
