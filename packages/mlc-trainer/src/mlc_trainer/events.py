"""What mlc-trainer tells, as typed functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import shared

if TYPE_CHECKING:
    from mlc_trainer.observers import RunRecord

__all__ = ["run_ended", "run_started"]


def run_started(run: RunRecord) -> None:
    """Tell that *run* begins or goes on."""
    shared().tell("mlc_run_started", run=run)


def run_ended(run: RunRecord, error: BaseException | None) -> None:
    """Tell that *run* ended, and by what."""
    shared().tell("mlc_run_ended", run=run, error=error)
