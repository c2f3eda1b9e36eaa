"""Two runs held against each other: every byte of their final state, and every number they measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlc_core import open_checkpoint
from mlc_trainer.errors import RunError
from mlc_trainer.observers import metrics_of, read_journal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["compare_runs"]


def compare_runs(one: Path, other: Path, model_name: str) -> Sequence[str]:
    """Return what was compared and is equal, a line each.

    Raises:
        RunError: If something differs; names the first such thing.
    """
    told = []
    final = [open_checkpoint(run / "checkpoints" / model_name / "final") for run in (one, other)]
    for reader in final:
        reader.verify()
    files = [{file.name: (file.xxh3_128, file.size) for file in reader.saved.files} for reader in final]
    for name in sorted({*files[0], *files[1]}):
        if files[0].get(name) != files[1].get(name):
            msg = f"{name} of the final checkpoints differs: {final[0].location} and {final[1].location}"
            raise RunError(msg)
        told.append(f"{name:24} {files[0][name][0]}  {files[0][name][1]:>9,} bytes")
    epochs = [_epochs(run) for run in (one, other)]
    if len(epochs[0]) != len(epochs[1]):
        msg = f"{one} measured {len(epochs[0])} epochs and {other} {len(epochs[1])}"
        raise RunError(msg)
    for left, right in zip(*epochs, strict=True):
        if left != right:
            msg = f"the metrics of epoch {left['epoch']} differ: {left} and {right}"
            raise RunError(msg)
    told.append(f"the metrics of all {len(epochs[0])} epochs")
    return told


def _epochs(run: Path) -> list[dict[str, Any]]:
    """Return what each epoch came to; when it did is no part of it."""
    lines = [line for line in read_journal(run / "metrics.jsonl") if line["event"] == "epoch"]
    return [{"epoch": line["epoch"], "step": line["step"], **metrics_of(line)} for line in lines]
