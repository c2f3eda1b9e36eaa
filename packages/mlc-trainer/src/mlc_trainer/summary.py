"""What a run came to, as plain data: for a person at the end, and for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mlc_trainer.files import replace_file
from mlc_trainer.metrics import as_number
from mlc_trainer.observers.journal import metrics_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from mlc_core import CheckpointManager
    from mlc_core.distributed import DistributedCheckpointManager
    from mlc_trainer.engine import Position

__all__ = ["as_floats", "export_history", "summarize"]


def as_floats(metrics: Mapping[str, float | Tensor] | None) -> dict[str, float]:
    """Return *metrics* as plain numbers; waits for the device of those that are tensors.

    Raises:
        ConfigError: If one is no number.
    """
    return {name: as_number(name, value) for name, value in (metrics or {}).items()}


def summarize(
    journal: Sequence[Mapping[str, Any]],
    checkpoints: CheckpointManager | DistributedCheckpointManager,
    *,
    model_name: str,
    position: Position,
) -> dict[str, Any]:
    """Return progress, model and checkpoints of a run from the lines of its *journal* and its *checkpoints*."""
    epochs = [metrics_of(line) for line in journal if line["event"] == "epoch"]
    kept = checkpoints.get_checkpoint_summary()
    return {
        "training_progress": {
            "total_epochs": max(len(epochs), position.epoch),
            "total_steps": position.step,
            "restarts": sum(line["event"] == "resumed" for line in journal),
            "last_metrics": epochs[-1] if epochs else {},
        },
        "model_info": {
            "model_name": model_name,
            **{name: kept[name] for name in ("monitor_metric", "best_metric")},
        },
        "checkpoint_info": {name: kept[name] for name in ("total_checkpoints", "total_bytes", "best", "latest")},
    }


def export_history(path: Path, summary: Mapping[str, Any], journal: Sequence[Mapping[str, Any]]) -> Path:
    """Write *summary* and every epoch of *journal* to *path* as JSON, all of it or nothing, and return *path*.

    Raises:
        DiskFullError, StorageError: If it cannot be written.
    """
    epochs = [{"epoch": line["epoch"], "step": line["step"], **metrics_of(line)} for line in journal if _ends(line)]
    replace_file(path, json.dumps({**summary, "epochs": epochs}, indent=2) + "\n")
    return path


def _ends(line: Mapping[str, Any]) -> bool:
    return bool(line["event"] == "epoch")
