"""What this plugin offers. Imports nothing heavy: the factories do, when they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlc_core import SaveStrategy, Storage
    from mlc_losses import Loss, LossSchedule
    from mlc_registry import PromotionCheck


@hookimpl
def mlc_save_strategies() -> Mapping[str, Callable[..., SaveStrategy]]:
    """Offer `plateau`."""
    return {"plateau": plateau}


@hookimpl
def mlc_losses() -> Mapping[str, Callable[..., Loss]]:
    """Offer `priced_overlap`."""
    return {"priced_overlap": priced_overlap}


@hookimpl
def mlc_loss_schedules() -> Mapping[str, Callable[..., LossSchedule]]:
    """Offer `rotation`."""
    return {"rotation": rotation}


@hookimpl
def mlc_storages() -> Mapping[str, Callable[[str], Storage]]:
    """Offer `sqlite://`."""
    return {"sqlite": sqlite}


@hookimpl
def mlc_promotion_checks() -> Mapping[str, Callable[..., PromotionCheck]]:
    """Offer `trained_on`."""
    return {"trained_on": trained_on}


def plateau(*, patience: int = 3, tolerance: float = 1e-3) -> SaveStrategy:
    """Save once when the metric has moved by less than *tolerance* for *patience* epochs."""
    from mlc_acme.strategy import Plateau

    return Plateau(patience=patience, tolerance=tolerance)


def priced_overlap(
    *, missed: float = 2.0, invented: float = 1.0, from_logits: bool = True, mode: str = "binary"
) -> Loss:
    """Compare by overlap, with a price for what is *missed* and one for what is *invented*."""
    from mlc_acme.loss import PricedOverlap

    return PricedOverlap(missed=missed, invented=invented, from_logits=from_logits, mode=mode)


def rotation(*, every: int = 1) -> LossSchedule:
    """Let each component take its turn with each weight, for *every* so many epochs."""
    from mlc_acme.schedule import Rotation

    return Rotation(every=every)


def sqlite(url: str) -> Storage:
    """Keep all checkpoints of a model in one SQLite file."""
    from mlc_acme.storage import SqliteStorage

    return SqliteStorage(url)


def trained_on(*, dataset: str) -> PromotionCheck:
    """Ask for a version that states that it was trained on *dataset*, in any version of it."""
    from mlc_acme.check import TrainedOn

    return TrainedOn(dataset=dataset)
