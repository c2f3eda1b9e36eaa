"""Saving and loading checkpoints: ours beside torch.save and safetensors, in turn, in one process.

    python -m nox -s bench                 writes the table into docs/benchmarks.md
    python benchmarks/checkpoints.py --rounds 9 --megabytes 300

Every save is durable (file and directory synced) and every load ends with tensors that were touched. Ours also hashes
what it writes and verifies what it reads; nobody else does.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from mlc_core import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
MARK = "<!-- results -->"
OURS = "mlc-core (hashed, verified)"


class State:
    """A state dict that stands for a model."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.tensors


def sync(path: Path) -> None:
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def touch(tensors: dict[str, torch.Tensor]) -> None:
    for tensor in tensors.values():
        tensor.view(torch.uint8).reshape(-1)[::4096].sum()


def savers(folder: Path, state: State) -> dict[str, Callable[[], object]]:
    manager = CheckpointManager(folder / "ours", "model", max_checkpoints=1)

    def with_torch() -> None:
        torch.save(state.tensors, folder / "model.pt")
        sync(folder / "model.pt")

    def with_safetensors() -> None:
        save_file(state.tensors, folder / "model.safetensors")
        sync(folder / "model.safetensors")

    return {
        OURS: lambda: manager.save_checkpoint(state, reason="benchmark"),
        "torch.save + fsync": with_torch,
        "safetensors + fsync": with_safetensors,
    }


def loaders(folder: Path) -> dict[str, Callable[[], object]]:
    manager = CheckpointManager(folder / "ours", "model", max_checkpoints=1)
    return {
        OURS: lambda: touch(manager.load_checkpoint("latest").state["model"]),
        "torch.load": lambda: touch(torch.load(folder / "model.pt", weights_only=True)),
        "torch.load(mmap=True)": lambda: touch(torch.load(folder / "model.pt", weights_only=True, mmap=True)),
        "safetensors.load_file": lambda: touch(load_file(folder / "model.safetensors")),
    }


def measure(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return seconds of each way, *rounds* times each, one after the other in every round; the first is a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:
                times[name].append(time.perf_counter() - began)
    return times


def table(title: str, times: dict[str, list[float]]) -> str:
    ours = statistics.median(times[OURS])
    lines = [f"## {title}", "", "| | median, ms | min … max | times ours |", "|---|---|---|---|"]
    for name, seconds in times.items():
        low, middle, high = (1000 * one for one in (min(seconds), statistics.median(seconds), max(seconds)))
        lines.append(f"| {name} | {middle:.1f} | {low:.1f} … {high:.1f} | {middle / (1000 * ours):.2f} |")
    return "\n".join(lines)


def states(megabytes: int) -> dict[str, dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    size = megabytes * 250_000 // 48
    sizes = torch.randint(256, 16_384, (2_000,), generator=draw).tolist()
    return {
        f"48 tensors, {megabytes} MB": {f"layer.{n}": torch.randn(size, generator=draw) for n in range(48)},
        f"2 000 small tensors, {sum(sizes) * 4 // 1_000_000} MB": {
            f"layer.{n}": torch.randn(count, generator=draw) for n, count in enumerate(sizes)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default: the temporary directory")
    options = parser.parse_args()
    parts = []
    for title, tensors in states(options.megabytes).items():
        folder = Path(tempfile.mkdtemp(prefix="mlc-bench-", dir=options.folder))
        try:
            parts.append(table(f"Save, durable: {title}", measure(savers(folder, State(tensors)), options.rounds)))
            parts.append(table(f"Load, warm: {title}", measure(loaders(folder), options.rounds)))
        finally:
            shutil.rmtree(folder)
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}"
    )
    results = f"Measured on {machine}; {options.rounds} rounds.\n\n" + "\n\n".join(parts)
    print(results)
    PAGE.write_text(PAGE.read_text(encoding="utf-8").partition(MARK)[0] + f"{MARK}\n\n{results}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
