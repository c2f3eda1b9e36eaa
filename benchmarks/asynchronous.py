"""Asynchronous saves: how long the caller waits, and what training loses meanwhile."""

from __future__ import annotations

import copy
import shutil
import time
import warnings
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from common import OURS, STATES, Training, measure, table
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from mlc_core import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[[], Callable[[], object]]
COPY = "limit: one copy into reused memory"
STEP = 1024


def starters(folder: Path, training: Training) -> dict[str, Start]:
    """Return each way to begin a save; what it returns waits until the save is done."""
    eager, lazy, process = (
        CheckpointManager(folder / name, "model", max_checkpoints=1, background=where)
        for name, where in (("eager", "thread"), ("lazy", "thread"), ("process", "process"))
    )
    lightning = AsyncCheckpointIO(TorchCheckpointIO())
    count = iter(range(10**9))

    def ours(manager: CheckpointManager, *, lazily: bool) -> Start:
        def start() -> Callable[[], object]:
            saving = manager.async_save_checkpoint(training.model, training.optimizer, reason="benchmark", lazy=lazily)
            assert saving is not None
            return saving.durable.result

        return start

    def with_dcp() -> Callable[[], object]:
        target = folder / f"dcp-{next(count)}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            future = dcp.async_save(training.state(), checkpoint_id=target)

        def wait() -> None:
            future.result()
            shutil.rmtree(target)

        return wait

    def with_lightning() -> Callable[[], object]:
        target = folder / f"lightning-{next(count)}.ckpt"
        lightning.save_checkpoint(training.state(), target)

        def wait() -> None:
            while not target.exists() or lightning._executor is None or lightning._executor._work_queue.qsize():
                time.sleep(0.002)
            lightning._executor.submit(int).result()
            target.unlink()

        return wait

    return {
        OURS: ours(eager, lazily=False),
        f"{OURS}, lazy": ours(lazy, lazily=True),
        f"{OURS}, process": ours(process, lazily=False),
        "DCP, thread": with_dcp,
        "Lightning AsyncCheckpointIO": with_lightning,
    }


def blocked(start: Start) -> Callable[[], float]:
    """Return a way whose time is that until the caller may go on; it waits for the rest."""

    def way() -> float:
        began = time.perf_counter()
        wait = start()
        seconds = time.perf_counter() - began
        wait()
        return seconds

    return way


def one_copy(training: Training) -> Callable[[], float]:
    """Return a way that copies all tensors to memory that is there."""
    sources = [tensor.reshape(-1) for tensor in training.flat().values()]
    targets = copy.deepcopy(sources)

    def way() -> float:
        began = time.perf_counter()
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
        return time.perf_counter() - began

    return way


def lost(start: Start, alone: float) -> Callable[[], float]:
    """Return a way whose time is what training loses to one save: blocked, and slowed until it is durable."""
    matrix = torch.randn(STEP, STEP)

    def way() -> float:
        began = time.perf_counter()
        done = _in_thread(start())
        steps = 0
        while not done():
            matrix @ matrix
            steps += 1
        return time.perf_counter() - began - steps * alone

    return way


def _in_thread(wait: Callable[[], object]) -> Callable[[], bool]:
    import threading

    thread = threading.Thread(target=wait)
    thread.start()
    return lambda: not thread.is_alive()


def _step_alone() -> float:
    matrix = torch.randn(STEP, STEP)
    times = []
    for _ in range(200):
        began = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def process_group(folder: Path) -> Iterator[None]:
    """Have a process group of one while the generator is open: DCP saves asynchronously within one only."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def tables(folder: Path, rounds: int, names: str) -> list[str]:
    """Return two tables for each of the states in *names*."""
    found = []
    group = process_group(folder)
    next(group)
    for name in names:
        training = STATES[name]()
        here = folder / f"asynchronous-{name}"
        here.mkdir()
        starts = starters(here, training)
        ways: dict[str, Callable[[], object]] = {label: blocked(start) for label, start in starts.items()}
        times = measure({**ways, COPY: one_copy(training)}, rounds, before=training.change)
        found.append(table(f"Asynchronous save, time until training may go on, {name}", times))
        alone = _step_alone()
        times = measure({label: lost(start, alone) for label, start in starts.items()}, rounds, before=training.change)
        note = f"Training is a {STEP} × {STEP} matrix product of {1000 * alone:.1f} ms, over and over, in one thread."
        found.append(table(f"Asynchronous save, training time lost to one save, {name}", times, note=note))
        shutil.rmtree(here)
    next(group, None)
    return found
