"""Loads to tensors whose every byte is then read: ours verifies its digests, nobody else does."""

from __future__ import annotations

import shutil
import warnings
from typing import TYPE_CHECKING

import torch
import torch.distributed.checkpoint as dcp
from common import OURS, STATES, Training, consume, forget, measure, sync, table
from safetensors.torch import load_file, save_file

from mlc_core import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def loaders(folder: Path, training: Training) -> dict[str, Callable[[], object]]:
    """Save *training* in every way, and return each way to load it."""
    manager = CheckpointManager(folder / "ours", "model", max_checkpoints=1)
    manager.save_checkpoint(training.model, training.optimizer, reason="benchmark")
    torch.save(training.state(), folder / "model.pt")
    save_file(training.flat(), folder / "model.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(training.flat(), checkpoint_id=folder / "dcp", no_dist=True)
    sync(folder)
    target = {name: torch.empty_like(tensor) for name, tensor in training.flat().items()}

    def with_dcp() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.load(target, checkpoint_id=folder / "dcp", no_dist=True)
        consume(target)

    return {
        OURS: lambda: consume(dict(manager.load_checkpoint("latest").state)),
        f"{OURS}, verify=False": lambda: consume(dict(manager.load_checkpoint("latest", verify=False).state)),
        "torch.load": lambda: consume(torch.load(folder / "model.pt", weights_only=True)),
        "torch.load(mmap=True)": lambda: consume(torch.load(folder / "model.pt", weights_only=True, mmap=True)),
        "safetensors.load_file": lambda: consume(load_file(folder / "model.safetensors")),
        "DCP into tensors that are there": with_dcp,
    }


def tables(folder: Path, rounds: int, names: str) -> list[str]:
    """Return two tables, warm and cold, for each of the states in *names*."""
    found = []
    for name in names:
        training = STATES[name]()
        here = folder / f"loading-{name}"
        here.mkdir()
        ways = loaders(here, training)
        found.append(table(f"Load, files in the page cache, {name}", measure(ways, rounds)))
        cold = measure(ways, rounds, before=lambda here=here: forget(here))
        found.append(table(f"Load, files on the disk only, {name}", cold))
        shutil.rmtree(here)
    return found
