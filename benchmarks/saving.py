"""Durable saves: ours beside torch.save, safetensors, DCP, Lightning, Accelerate and what the disk can do at all."""

from __future__ import annotations

import itertools
import mmap
import os
import shutil
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
import torch.distributed.checkpoint as dcp
from accelerate import Accelerator
from common import OURS, STATES, Training, measure, sync, table
from lightning.fabric.plugins import TorchCheckpointIO
from safetensors.torch import save_file

from mlc_core import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHUNK = 16 << 20
LIMIT = "limit: a ready image, direct I/O"


def limit(folder: Path, size: int) -> Callable[[], None]:
    """Return a way that writes *size* bytes that lie ready in memory, with nothing else to do.

    As in ours, the file before is deleted by a thread of its own.
    """
    image = mmap.mmap(-1, size + -size % mmap.PAGESIZE)
    image.madvise(mmap.MADV_HUGEPAGE)
    view = memoryview(image)
    for begin in range(0, len(view), mmap.PAGESIZE):
        view[begin] = 1
    numbers = itertools.count()
    deleting = ThreadPoolExecutor(max_workers=1)

    def write() -> None:
        number = next(numbers)
        target = folder / f"limit-{number}.bin"
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o644)
        os.posix_fallocate(descriptor, 0, len(view))

        def work(first: int) -> None:
            for begin in range(first * CHUNK, len(view), 2 * CHUNK):
                os.pwrite(descriptor, view[begin : begin + CHUNK], begin)

        other = threading.Thread(target=work, args=(1,))
        other.start()
        work(0)
        other.join()
        os.fsync(descriptor)
        os.close(descriptor)
        sync(target)
        deleting.submit((folder / f"limit-{number - 1}.bin").unlink, missing_ok=True)

    return write


def savers(folder: Path, training: Training) -> dict[str, Callable[[], object]]:
    """Return each way to save all of *training* durably."""
    manager = CheckpointManager(folder / "ours", "model", max_checkpoints=1)
    accelerator = Accelerator(cpu=True)
    prepared = accelerator.prepare(training.model, *([training.optimizer] if training.optimizer else []))

    def with_torch() -> None:
        torch.save(training.state(), folder / "model.pt")
        sync(folder / "model.pt")

    def with_safetensors() -> None:
        save_file(training.flat(), folder / "model.safetensors")
        sync(folder / "model.safetensors")

    def with_dcp() -> None:
        shutil.rmtree(folder / "dcp", ignore_errors=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.save(training.state(), checkpoint_id=folder / "dcp", no_dist=True)
        sync(folder / "dcp")

    def with_lightning() -> None:
        TorchCheckpointIO().save_checkpoint(training.state(), folder / "lightning.ckpt")
        sync(folder / "lightning.ckpt")

    def with_accelerate() -> None:
        accelerator.save_state(str(folder / "accelerate"))
        sync(folder / "accelerate")

    assert prepared is not None
    return {
        OURS: lambda: manager.save_checkpoint(training.model, training.optimizer, reason="benchmark"),
        LIMIT: limit(folder, training.bytes),
        "torch.save + fsync": with_torch,
        "safetensors + fsync": with_safetensors,
        "DCP + fsync": with_dcp,
        "Lightning + fsync": with_lightning,
        "Accelerate + fsync": with_accelerate,
    }


def tables(folder: Path, rounds: int, names: str) -> list[str]:
    """Return a table for each of the states in *names*."""
    found = []
    for name in names:
        training = STATES[name]()
        here = folder / f"saving-{name}"
        here.mkdir()
        times = measure(savers(here, training), rounds, before=training.change)
        size = f"{training.bytes / 1e6:,.0f} MB in {len(training.flat()):,} tensors"
        found.append(table(f"Durable save, {name}: {size}", times, note="Ours also hashes. Every value changes."))
        shutil.rmtree(here)
    return found
