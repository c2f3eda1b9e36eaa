"""What mlc-registry tells, as typed functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import shared

if TYPE_CHECKING:
    from pathlib import Path

    from mlc_registry.records import ModelVersion, Stage

__all__ = ["model_demoted", "model_promoted", "model_registered"]


def model_demoted(before: Stage) -> None:
    """Tell that a stage, which was *before*, points to nothing any more."""
    shared().tell("mlc_model_demoted", before=before)


def model_registered(model: ModelVersion, path: Path) -> None:
    """Tell that *model* is published, with its files at *path*."""
    shared().tell("mlc_model_registered", model=model, path=path)


def model_promoted(model: ModelVersion, before: Stage | None, after: Stage) -> None:
    """Tell that the stage *after* points to *model* now."""
    shared().tell("mlc_model_promoted", model=model, before=before, after=after)
