"""What a resume came to, as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks.console import print_table

if TYPE_CHECKING:
    from mlc_trainer.engine import Position
    from mlc_trainer.observers import RunRecord

__all__ = ["ResumeTable"]


class ResumeTable:
    """Prints it when training goes on."""

    def run_started(self, run: RunRecord, position: Position) -> None:
        """Print the table."""
        if run.resume is not None:
            print_table(f"Resumed from {run.resume.checkpoint}", ("", "what", "how"), list(run.resume.rows()))

    def _say_nothing(self, *_: object) -> None:
        """Say nothing."""

    step_ended = step_logged = epoch_ended = rolled_back = checkpoint_saved = run_ended = _say_nothing
