"""What all measurements share: states to save, rounds that nobody disturbed, and tables."""

from __future__ import annotations

import os
import resource
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OURS = "mlc-core"
DISTURBED = 0.15  # of one core, used by others during a sample: it is thrown away
PATIENCE = 3  # times as many samples as are wanted, before disturbed ones count all the same


class Training:
    """A model and its optimizer that stand for a training run; *change* does what a step does to every value."""

    def __init__(self, sizes: Sequence[int], *, optimizer: bool = True, frozen: float = 0.0) -> None:
        torch.manual_seed(0)
        self.model = nn.ParameterList([torch.randn(size) for size in sizes])
        for parameter in list(self.model)[: round(frozen * len(sizes))]:
            parameter.requires_grad = False
        trained = [one for one in self.model if one.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-6, foreach=False) if optimizer else None
        if self.optimizer is not None:
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def tensors(self) -> list[torch.Tensor]:
        """Return all tensors that change."""
        found = [one.detach() for one in self.model if one.requires_grad]
        if self.optimizer is not None:
            for state in self.optimizer.state.values():
                found += [value for value in state.values() if value.numel() > 1]
        return found

    def change(self) -> None:
        """Change every value that trains."""
        for tensor in self.tensors():
            tensor.add_(1e-3)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint of a peer holds."""
        found: dict[str, Any] = {"model": self.model.state_dict()}
        if self.optimizer is not None:
            found["optimizer"] = self.optimizer.state_dict()
        return found

    def flat(self) -> dict[str, torch.Tensor]:
        """Return all tensors by name, for formats that know nothing else."""
        found = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.optimizer is not None:
            for number, state in self.optimizer.state_dict()["state"].items():
                found |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        return found

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.flat().values())


def small() -> Training:
    """S: a U-Net with AdamW, 300 MB in 144 tensors."""
    return Training([300_000_000 // 12 // 48] * 48)


def large() -> Training:
    """L: a transformer with AdamW, 2 GB in 600 tensors."""
    return Training([2_000_000_000 // 12 // 200] * 200)


def many() -> Training:
    """M: 10 000 tensors of 1 to 64 KB."""
    draw = torch.Generator().manual_seed(0)
    return Training(torch.randint(256, 16_384, (10_000,), generator=draw).tolist(), optimizer=False)


STATES = {"S": small, "L": large, "M": many}


def sync(path: Path) -> None:
    """Make *path*, its files if it is a directory, and its name durable."""
    inside = list(path.rglob("*")) if path.is_dir() else []
    for place in (*inside, path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def forget(folder: Path) -> None:
    """Take the files below *folder* out of the page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def consume(tensors: Any) -> None:
    """Read every byte of every tensor in a nested state once, as copying it to a device would."""
    if isinstance(tensors, torch.Tensor):
        tensors.detach().sum()
    elif isinstance(tensors, dict):
        for one in tensors.values():
            consume(one)
    elif isinstance(tensors, (list, tuple)):
        for one in tensors:
            consume(one)


def measure(
    ways: dict[str, Callable[[], object]], rounds: int, *, before: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Return seconds of each way, *rounds* of each, in turn; *before* runs untimed, and the first round is a warm-up.

    A sample during which others used the processor is thrown away and taken again, within reason.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        before()
        way()
    for _ in range(PATIENCE * rounds):
        for name, way in ways.items():
            if len(times[name]) >= rounds:
                continue
            before()
            busy, began = _others(), time.perf_counter()
            value = way()
            seconds = time.perf_counter() - began
            if _others() - busy < DISTURBED * seconds + 0.02:
                times[name].append(value if isinstance(value, float) else seconds)
    for name, way in ways.items():
        while len(times[name]) < rounds:  # the machine never was quiet: better these than none
            before()
            began = time.perf_counter()
            value = way()
            times[name].append(value if isinstance(value, float) else time.perf_counter() - began)
            DISTURBANCES.append(name)
    return times


DISTURBANCES: list[str] = []


def _others() -> float:
    """Return the seconds of processor time that everybody but this process and its children has used so far."""
    fields = [int(one) for one in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
    user, nice, system, _, _, irq, softirq, *_ = fields
    own = sum(
        one.ru_utime + one.ru_stime for one in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - own


def table(title: str, times: dict[str, list[float]], *, note: str = "") -> str:
    """Return a table of medians with what each costs compared with ours."""
    ours = statistics.median(times[OURS])
    lines = [f"## {title}", "", *([note, ""] if note else [])]
    lines += ["| | median, ms | min … max | times ours |", "|---|---|---|---|"]
    for name, seconds in times.items():
        low, middle, high = (1000 * one for one in (min(seconds), statistics.median(seconds), max(seconds)))
        lines.append(f"| {name} | {middle:.1f} | {low:.1f} … {high:.1f} | {middle / (1000 * ours):.2f} |")
    return "\n".join(lines)
