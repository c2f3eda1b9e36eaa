"""What this plugin offers. Imports nothing heavy: the factories do, when they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlc_core import SaveStrategy, Storage
    from mlc_losses import Loss


@hookimpl
def mlc_save_strategies() -> Mapping[str, Callable[..., SaveStrategy]]:
    """Offer `plateau`."""
    return {"plateau": plateau}


@hookimpl
def mlc_losses() -> Mapping[str, Callable[..., Loss]]:
    """Offer `tversky`."""
    return {"tversky": tversky}


@hookimpl
def mlc_storages() -> Mapping[str, Callable[[str], Storage]]:
    """Offer `sqlite://`."""
    return {"sqlite": sqlite}


def plateau(*, patience: int = 3, tolerance: float = 1e-3) -> SaveStrategy:
    """Save once when the metric has moved by less than *tolerance* for *patience* epochs."""
    from mlc_acme.strategy import Plateau

    return Plateau(patience=patience, tolerance=tolerance)


def tversky(
    *,
    missed: float = 0.7,
    invented: float = 0.3,
    smooth: float = 1.0,
    from_logits: bool = True,
    mode: str = "binary",
) -> Loss:
    """Compare by overlap, with a price for what is *missed* and one for what is *invented*."""
    from mlc_acme.loss import Tversky

    return Tversky(missed=missed, invented=invented, smooth=smooth, from_logits=from_logits, mode=mode)


def sqlite(url: str) -> Storage:
    """Keep all checkpoints of a model in one SQLite file."""
    from mlc_acme.storage import SqliteStorage

    return SqliteStorage(url)
