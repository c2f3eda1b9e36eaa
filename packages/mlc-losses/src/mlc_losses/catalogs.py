"""The losses that can be had by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import Catalog, shared

if TYPE_CHECKING:
    from mlc_losses.protocols import Loss

__all__ = ["losses"]


def losses() -> Catalog[Loss]:
    """Return the catalog of losses: ours, and those of the plugins that are installed."""
    return Catalog("loss", hook="mlc_losses", home="mlc_losses", plugins=shared())
