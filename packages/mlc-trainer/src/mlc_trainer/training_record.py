"""What a training loop leaves behind, for people and programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_trainer.observers import read_journal
from mlc_trainer.summary import export_history, summarize

if TYPE_CHECKING:
    from mlc_core import CheckpointManager
    from mlc_core.distributed import DistributedCheckpointManager
    from mlc_trainer.engine import Position

__all__ = ["TrainingRecord"]


class TrainingRecord:
    """A directory with a journal and checkpoints, and what they tell."""

    checkpoint_manager: CheckpointManager | DistributedCheckpointManager
    model_dir: Path
    model_name: str

    @property
    def position(self) -> Position:
        """How far training has come."""
        raise NotImplementedError

    @property
    def journal(self) -> Path:
        """A line of JSON for each thing that happened."""
        return self.model_dir / "metrics.jsonl"

    def get_training_summary(self) -> dict[str, Any]:
        """Return progress, model and checkpoints of this directory, as plain data."""
        return summarize(
            read_journal(self.journal), self.checkpoint_manager, model_name=self.model_name, position=self.position
        )

    def get_checkpoint_summary(self) -> dict[str, Any]:
        """Return what the manager of checkpoints says of them, as plain data."""
        return self.checkpoint_manager.get_checkpoint_summary()

    def export_training_data(self, path: Path | str | None = None) -> Path:
        """Write the summary and every epoch as JSON to *path*, or beside the journal, and return the file."""
        target = self.model_dir / "training_data.json" if path is None else Path(path)
        return export_history(target, self.get_training_summary(), read_journal(self.journal))
