"""What mlc-trainer tells plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import hookspec

if TYPE_CHECKING:
    from mlc_trainer.observers import RunRecord

__all__ = ["mlc_run_ended", "mlc_run_started"]


@hookspec
def mlc_run_started(run: RunRecord) -> None:
    """Hear that a run begins or goes on."""


@hookspec
def mlc_run_ended(run: RunRecord, error: BaseException | None) -> None:
    """Hear that a run ended, and by what error, if any."""
