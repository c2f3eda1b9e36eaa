"""Losses, ours beside the peers, in turn, in one process; the tables go into docs/losses/benchmarks.md.

    python -m nox -s bench                                     with everything else
    python benchmarks/losses.py --rounds 15
    python benchmarks/losses.py --only A --print               look, and leave the page alone

Each table is measured twice, in a process each: as the C library manages memory by default, and where it gives nothing
back to the system, so that fresh pages cost nothing. A sample during which something else used the processor is thrown
away and taken again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import common
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

PAGE = Path(__file__).parents[1] / "docs" / "losses" / "benchmarks.md"
MARK = "<!-- results -->"
OURS = "mlc-losses"
TOGETHER = 4  # passes in a sample: others' use of the processor is counted in steps of 10 ms
KEEP = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
ALLOCATORS: dict[str, dict[str, str]] = {"page faults removed": KEEP, "default allocator": {}}
THREADS = 2

Loss = Callable[[Tensor, Tensor], Tensor]


class NnUnetLike(nn.Module):
    """Dice and cross entropy as nnU-Net computes them, written anew in plain torch after its source.

    `MemoryEfficientSoftDiceLoss`: sums over a one-hot bool target, Dice of each sample, smooth 1e-5; beside it torch's
    own cross entropy.
    """

    def __init__(self, *, softmax: bool) -> None:
        super().__init__()
        self.softmax = softmax
        self.entropy = nn.CrossEntropyLoss() if softmax else nn.BCEWithLogitsLoss()

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        p = torch.softmax(pred, 1) if self.softmax else torch.sigmoid(pred)
        axes = tuple(range(2, pred.dim()))
        with torch.no_grad():
            if self.softmax:
                hot = torch.zeros(pred.shape, dtype=torch.bool).scatter_(1, target.unsqueeze(1), 1)
            else:
                hot = target
            size_t = hot.sum(axes)
        overlap, size_p = (p * hot).sum(axes), p.sum(axes)
        dice = (2 * overlap + 1e-5) / (size_t + size_p + 1e-5).clip(1e-8)
        entropy: Tensor = self.entropy(pred, target)
        return entropy - dice.mean()


def images(*, trained: bool = False) -> tuple[Tensor, Tensor]:
    """A: eight images of 512 by 512, as a fresh network sees them, or one that has learnt most of them."""
    torch.manual_seed(0)
    target = (torch.rand(8, 1, 512, 512) < 0.2).float()
    noise = torch.randn(8, 1, 512, 512)
    return (6 * (2 * target - 1) + 2 * noise if trained else noise), target


def volumes() -> tuple[Tensor, Tensor]:
    """B: two volumes of 128 by 128 by 64 with three classes."""
    torch.manual_seed(0)
    return torch.randn(2, 3, 128, 128, 64), torch.randint(0, 3, (2, 128, 128, 64))


def rows() -> Mapping[str, tuple[Callable[[], tuple[Tensor, Tensor]], Mapping[str, Loss]]]:
    """Return what is measured: by title the tensors and the losses by name, ours first."""
    from monai import losses as monai

    from mlc_losses import BCELoss, CombinedLoss, CrossEntropyLoss, DiceLoss

    def both(voxel: nn.Module, mode: str = "binary") -> nn.Module:
        return CombinedLoss({"dice": DiceLoss(mode=mode), "voxel": voxel}, {"dice": 0.5, "voxel": 0.5})

    dice_bce: dict[str, Loss] = {
        OURS: both(BCELoss()),
        "MONAI DiceCELoss": monai.DiceCELoss(sigmoid=True),
        "as nnU-Net": NnUnetLike(softmax=False),
        "torch, BCE alone": nn.BCEWithLogitsLoss(),
    }
    classes = both(CrossEntropyLoss(), "multiclass")
    monai_classes = monai.DiceCELoss(softmax=True, to_onehot_y=True)
    return {
        "A: Dice + BCE": (images, dice_bce),
        "A, learnt: Dice + BCE": (lambda: images(trained=True), dice_bce),
        "A: focal": (images, {OURS: BCELoss(gamma=2.0), "MONAI FocalLoss": monai.FocalLoss()}),
        "A: Dice + focal": (
            images,
            {OURS: both(BCELoss(gamma=2.0)), "MONAI DiceFocalLoss": monai.DiceFocalLoss(sigmoid=True)},
        ),
        "B: Dice + CE": (
            volumes,
            {
                OURS: classes,
                f"{OURS}, compiled": torch.compile(classes, fullgraph=True),
                "MONAI DiceCELoss": lambda pred, target: monai_classes(pred, target.unsqueeze(1)),
                "as nnU-Net": NnUnetLike(softmax=True),
                "torch, CE alone": nn.CrossEntropyLoss(),
            },
        ),
    }


def step(loss: Loss, pred: Tensor, target: Tensor) -> Tensor:
    """Run a forward and backward pass."""
    pred.grad = None
    value = loss(pred, target)
    value.backward()
    return value.detach()


def live_peak(loss: Loss, pred: Tensor, target: Tensor) -> float:
    """Return the most memory that a pass has live, its gradient included, in predictions."""
    pred.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        loss(pred, target).backward()
    live = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak / pred.nbytes


def exactness(loss: Loss, pred: Tensor, target: Tensor) -> tuple[float, float]:
    """Return how far value and gradient are from those of float64, relative to the value and the greatest gradient."""
    value, gradient = step(loss, pred, target), pred.grad
    wide = pred.detach().double().requires_grad_()
    truth = step(loss, wide, target.double() if target.is_floating_point() else target)
    assert gradient is not None
    assert wide.grad is not None
    return (
        float((value - truth).abs() / truth.abs()),
        float((gradient - wide.grad).abs().amax() / wide.grad.abs().amax()),
    )


def measure(only: str, rounds: int) -> dict[str, dict[str, dict[str, object]]]:
    """Return what was measured by title and name, in this process."""
    torch.set_num_threads(THREADS)
    found: dict[str, dict[str, dict[str, object]]] = {}
    for title, (draw, losses) in rows().items():
        if not title.startswith(only):
            continue
        pred, target = draw()
        pred.requires_grad_()

        def sample(loss: Loss, pred: Tensor = pred, target: Tensor = target) -> None:
            for _ in range(TOGETHER):
                step(loss, pred, target)

        for loss in losses.values():
            sample(loss)
        ways = {name: (lambda loss=loss, sample=sample: sample(loss)) for name, loss in losses.items()}
        times = common.measure(ways, rounds)
        found[title] = {
            name: {
                "times": [one / TOGETHER for one in times[name]],
                "peak": live_peak(loss, pred, target),
                "exact": exactness(loss, pred, target) if "compiled" not in name else None,
                "disturbed": common.DISTURBANCES.count(name),
            }
            for name, loss in losses.items()
        }
        common.DISTURBANCES.clear()
    return found


def interval(times: list[float], ours: list[float]) -> str:
    """Return the ratio of medians with its 95 % interval by bootstrap."""
    draw = random.Random(0)
    ratios = sorted(
        statistics.median(draw.choices(times, k=len(times))) / statistics.median(draw.choices(ours, k=len(ours)))
        for _ in range(2000)
    )
    return f"{statistics.median(times) / statistics.median(ours):.2f} [{ratios[50]:.2f}, {ratios[1949]:.2f}]"


def table(title: str, setting: str, found: dict[str, dict[str, object]]) -> str:
    """Return one table."""
    ours = found[OURS]["times"]
    lines = [f"## {title}, {setting}", ""]
    lines += ["| | median, ms | min … max | times ours | memory | loss off by | gradient off by |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, one in found.items():
        times = one["times"]
        low, middle, high = (1000 * every for every in (min(times), statistics.median(times), max(times)))
        exact = one["exact"]
        off = f"{exact[0]:.0e} | {exact[1]:.0e}" if exact else "|"
        star = "\\*" if one["disturbed"] else ""
        ratio = interval(times, ours) if name != OURS else "1"
        lines.append(f"| {name}{star} | {middle:.2f} | {low:.2f} … {high:.2f} | {ratio} | {one['peak']:.2f}× | {off} |")
    return "\n".join(lines)


def run_apart(environment: Mapping[str, str], options: argparse.Namespace) -> dict[str, dict[str, dict[str, object]]]:
    """Return what a process of its own measures, where *environment* says how memory is managed."""
    threads = {"OMP_NUM_THREADS": str(THREADS)}
    command = [sys.executable, __file__, "--measure", "--only", options.only, "--rounds", str(options.rounds)]
    done = subprocess.run(
        command, env={**os.environ, **threads, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, dict[str, dict[str, object]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="tables whose title starts so: A, B, 'A: focal'")
    parser.add_argument("--print", action="store_true", help="print the tables and leave the page alone")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.measure:
        print(json.dumps(measure(options.only, options.rounds)))
        return
    tables = []
    for setting, environment in ALLOCATORS.items():
        found = run_apart(environment, options)
        tables += [table(title, setting, rest) for title, rest in found.items()]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "monai"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"
    results = f"Measured on {machine}; {THREADS} threads, {options.rounds} samples of {TOGETHER} passes.\n\n"
    results += "\n\n".join(tables)
    print(results)
    if not options.print:
        page = PAGE.read_text(encoding="utf-8").partition(MARK)[0] + f"{MARK}\n\n{results}\n"
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
