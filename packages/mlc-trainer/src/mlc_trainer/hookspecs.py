"""What mlc-trainer tells plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import hookspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlc_trainer.observers import Observer, RunRecord

__all__ = ["mlc_callbacks", "mlc_run_ended", "mlc_run_started", "mlc_trackers"]

# mypy: disable-error-code="empty-body"


@hookspec
def mlc_callbacks() -> Mapping[str, Callable[..., Observer]]:
    """Offer observers that are told in the training loop, at once; each factory takes the options of its own.

    One that raises is told nothing more, and the run goes on.
    """


@hookspec
def mlc_trackers() -> Mapping[str, Callable[..., Observer]]:
    """Offer observers that are told in a thread of their own, in order and however slow they are.

    They hear everything but `step_ended`.
    """


@hookspec
def mlc_run_started(run: RunRecord) -> None:
    """Hear that a run begins or goes on."""


@hookspec
def mlc_run_ended(run: RunRecord, error: BaseException | None) -> None:
    """Hear that a run ended, and by what error, if any."""
