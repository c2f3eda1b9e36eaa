"""Saves of a model that is mostly frozen: what is written and how long it takes, beside a save of everything."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from common import OURS, Training, measure, table

from mlc_core import CheckpointManager

if TYPE_CHECKING:
    from pathlib import Path

FULL = "mlc-core, every value changed"


def identity(path: Path) -> tuple[int, int]:
    """Return which file this is; an inode's number alone comes again."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def tables(folder: Path, rounds: int) -> list[str]:
    """Return the table."""
    here = folder / "incremental"
    frozen, trained = (Training([10_000_000] * 50, frozen=part, optimizer=False) for part in (0.9, 0.0))
    ours, full = (CheckpointManager(here / name, "model", max_checkpoints=1) for name in ("frozen", "trained"))

    def change() -> None:
        frozen.change()
        trained.change()

    times = measure(
        {
            OURS: lambda: ours.save_checkpoint(frozen.model, reason="benchmark"),
            FULL: lambda: full.save_checkpoint(trained.model, reason="benchmark"),
        },
        rounds,
        before=change,
    )
    ours.save_checkpoint(frozen.model, reason="first")
    before = set(map(identity, here.rglob("*.safetensors")))
    kept = CheckpointManager(here / "frozen", "model", max_checkpoints=2)
    frozen.change()
    kept.save_checkpoint(frozen.model, reason="second")
    written = sum(one.stat().st_size for one in here.rglob("*.safetensors") if identity(one) not in before)
    note = f"2 GB, 90 % of the parameters frozen: {written / frozen.bytes:.3f} of the bytes are written."
    shutil.rmtree(here)
    return [table("Incremental save", times, note=note)]
