"""Losses, ours beside the peers, in turn, in one process; the tables go into docs/losses/benchmarks.md.

    python -m nox -s bench                                     with everything else
    python benchmarks/losses.py --rounds 15
    python benchmarks/losses.py --only A --print               look, and leave the page alone
    python benchmarks/losses.py --busy                         on a machine that is never quiet

Each table is measured three times, in a process each: where the C library gives nothing back to the system, so that
fresh pages cost nothing, as it manages memory by default, and by the processor time of one thread. A sample during
which something else used the processor is thrown away and taken again. On a machine that is never quiet, time of two
threads says how long they waited for each other; the processor time of one thread stays within a few percent of what it
is in quiet.
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
import time
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
BUSY = {"processor time of one thread": KEEP}
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

    def alike(loss: nn.Module) -> dict[str, Loss]:
        return {OURS: loss, f"{OURS}, compiled": torch.compile(loss, fullgraph=True)}

    dice_bce: dict[str, Loss] = {
        **alike(both(BCELoss())),
        "MONAI DiceCELoss": monai.DiceCELoss(sigmoid=True),
        "as nnU-Net": NnUnetLike(softmax=False),
        "torch, BCE alone": nn.BCEWithLogitsLoss(),
    }
    monai_classes = monai.DiceCELoss(softmax=True, to_onehot_y=True)
    return {
        "A: Dice + BCE": (images, dice_bce),
        "A, learnt: Dice + BCE": (lambda: images(trained=True), dice_bce),
        "A: focal": (images, {**alike(BCELoss(gamma=2.0)), "MONAI FocalLoss": monai.FocalLoss()}),
        "A: Dice + focal": (
            images,
            {**alike(both(BCELoss(gamma=2.0))), "MONAI DiceFocalLoss": monai.DiceFocalLoss(sigmoid=True)},
        ),
        "B: Dice + CE": (
            volumes,
            {
                **alike(both(CrossEntropyLoss(), "multiclass")),
                "MONAI DiceCELoss": lambda pred, target: monai_classes(pred, target.unsqueeze(1)),
                "as nnU-Net": NnUnetLike(softmax=True),
                "torch, CE alone": nn.CrossEntropyLoss(),
            },
        ),
    }


class Passes:
    """What eager torch cannot do without: one call for each pass over a block, and nothing around it.

    No checks, no graph, no classes or options: no judging of sums, and a gradient of made-up slopes. A step of ours
    does the same arithmetic and has all of that beside it.
    """

    block = 262_144

    def __init__(self, pred: Tensor, target: Tensor) -> None:
        samples, self.channels = pred.shape[:2]
        rows = [one.detach().reshape(samples, -1, pred[0, 0].numel()) for one in (pred, target)]
        self.pred, self.gradient = rows[0], torch.empty_like(rows[0])
        width = self.block // self.channels // 64 * 64
        parts = [[part for row in one for part in row.split(width, -1)] for one in (*rows, self.gradient)]
        self.parts = list(zip(*parts, strict=True))
        self.spare, self.other = (torch.empty(self.channels, width) for _ in range(2))
        self.slope, self.one = torch.tensor(0.3), torch.tensor(1.0)

    def dice_bce(self) -> None:
        """Sigmoid, four sums and the logarithms of products forward, five passes backward."""
        for x, t, p in self.parts:
            spare = self.spare[:, : x.shape[-1]]
            torch.sigmoid(x, out=p)
            torch.clamp_min(x, 0, out=spare).addcmul_(x, t, value=-1).sum(-1)
            torch.maximum(torch.sub(self.one, p, out=spare), p, out=spare).view(64, -1).prod(0).log_().sum()
            self._sum_region(p, t, spare)
        for _, t, p in self.parts:
            spare = self._fall_region(p, t)
            torch.add(spare, p.sub_(t), alpha=0.1, out=p)

    def focal(self) -> None:
        """Sigmoid, the logarithm and two powers forward, one pass backward."""
        for x, t, out in self.parts:
            self._focal(x, t, out)
        for _, _, out in self.parts:
            out.mul_(0.1)

    def dice_focal(self) -> None:
        """Both at once: what was a probability is a gradient by then, so that it is made anew."""
        for x, t, out in self.parts:
            wrong = torch.sigmoid(x, out=out)
            self._sum_region(wrong, t, self.spare[:, : x.shape[-1]])
            self._focal(x, t, out)
        for x, t, out in self.parts:
            p = torch.sigmoid(x, out=self.other[:, : x.shape[-1]])
            torch.add(self._fall_region(p, t), out, alpha=0.1, out=out)

    def dice_ce(self) -> None:
        """Softmax, one-hot classes, three sums and the logarithms of products forward, six passes backward."""
        numbers = torch.arange(self.channels, dtype=torch.uint8).view(-1, 1)
        torch.softmax(self.pred, 1, out=self.gradient)
        kept = []
        for x, labels, p in self.parts:
            kept.append(labels.to(torch.uint8))
            t = torch.eq(kept[-1], numbers, out=self.other[:, : x.shape[-1]])
            spare = torch.mul(p, t, out=self.spare[:, : x.shape[-1]])
            (spare[0] + spare[1]).add_(spare[2]).view(4, -1).prod(0).log_().sum()
            spare.sum(-1), p.sum(-1), t.sum(-1)
        for (_, _, p), labels in zip(self.parts, kept, strict=True):
            t = torch.eq(labels, numbers, out=self.other[:, : p.shape[-1]])
            y = torch.add(self.slope, p, alpha=0.2, out=self.spare[:, : p.shape[-1]]).mul_(t).add_(p, alpha=0.1)
            torch.addcmul(y, p, (y[0] + y[1]).add_(y[2]), value=-1, out=p)

    def _sum_region(self, p: Tensor, t: Tensor, spare: Tensor) -> None:
        torch.minimum(p, t, out=spare).sum(-1), p.sum(-1), t.sum(-1)

    def _fall_region(self, p: Tensor, t: Tensor) -> Tensor:
        spare = torch.lt(p, t, out=self.spare[:, : p.shape[-1]])
        torch.add(self.slope, spare, alpha=0.2, out=spare)
        torch.ops.aten.sigmoid_backward.grad_input(spare, p, grad_input=spare)
        return spare

    def _focal(self, x: Tensor, t: Tensor, out: Tensor) -> None:
        wrong, cost = self.spare[:, : x.shape[-1]], self.other[:, : x.shape[-1]]
        torch.sigmoid(torch.add(self.one, t, alpha=-2, out=cost).mul_(x), out=wrong)
        torch.neg(wrong, out=cost).log1p_().mul_(torch.pow(wrong, 2, out=out)).sum(-1)
        torch.pow(wrong, 3, out=out).addcmul_(cost, wrong.sub_(1)).addcmul_(out, t, value=-2)


LIMIT = "limit: its passes alone"
LIMITS = {"A: Dice + BCE": "dice_bce", "A: focal": "focal", "A: Dice + focal": "dice_focal", "B: Dice + CE": "dice_ce"}


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


def measure_processor(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return seconds that this thread used the processor for, *rounds* of each way in turn."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.thread_time()
            way()
            times[name].append(time.thread_time() - began)
    return times


def measure(only: str, rounds: int, *, busy: bool) -> dict[str, dict[str, dict[str, object]]]:
    """Return what was measured by title and name, in this process."""
    torch.set_num_threads(1 if busy else THREADS)
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
        if title in LIMITS:
            alone = getattr(Passes(pred, target), LIMITS[title])
            ways[LIMIT] = lambda alone=alone: [alone() for _ in range(TOGETHER)]
        times = (measure_processor if busy else common.measure)(ways, rounds)
        found[title] = {
            name: {
                "times": [one / TOGETHER for one in times[name]],
                "peak": live_peak(loss, pred, target),
                "exact": exactness(loss, pred, target) if "compiled" not in name else None,
                "disturbed": common.DISTURBANCES.count(name),
            }
            for name, loss in losses.items()
        }
        if title in LIMITS:
            taken = [one / TOGETHER for one in times[LIMIT]]
            found[title][LIMIT] = {
                "times": taken,
                "peak": None,
                "exact": None,
                "disturbed": LIMIT in common.DISTURBANCES,
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
        peak = f"{one['peak']:.2f}×" if one["peak"] else ""
        lines.append(f"| {name}{star} | {middle:.2f} | {low:.2f} … {high:.2f} | {ratio} | {peak} | {off} |")
    return "\n".join(lines)


def run_apart(
    environment: Mapping[str, str], options: argparse.Namespace, *, busy: bool
) -> dict[str, dict[str, dict[str, object]]]:
    """Return what a process of its own measures, where *environment* says how memory is managed."""
    threads = {"OMP_NUM_THREADS": "1" if busy else str(THREADS)}
    command = [sys.executable, __file__, "--measure", "--only", options.only, "--rounds", str(options.rounds)]
    command += ["--busy"] if busy else []
    done = subprocess.run(
        command, env={**os.environ, **threads, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, dict[str, dict[str, object]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def describe(options: argparse.Namespace, *, busy: bool) -> str:
    """Measure, and return the tables with what they were made on."""
    tables = []
    for setting, environment in (BUSY if busy else ALLOCATORS).items():
        found = run_apart(environment, options, busy=busy)
        tables += [table(title, setting, rest) for title, rest in found.items()]
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "monai"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"
    threads = "one thread" if busy else f"{THREADS} threads"
    head = f"Measured on {machine}; {threads}, {options.rounds} samples of {TOGETHER} passes."
    return "\n\n".join([head, *tables])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="tables whose title starts so: A, B, 'A: focal'")
    parser.add_argument("--print", action="store_true", help="print the tables and leave the page alone")
    parser.add_argument("--busy", action="store_true", help="measure the processor time of one thread alone")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.measure:
        print(json.dumps(measure(options.only, options.rounds, busy=options.busy)))
        return
    results = "\n\n".join(describe(options, busy=busy) for busy in ([True] if options.busy else [False, True]))
    print(results)
    if not options.print:
        page = PAGE.read_text(encoding="utf-8").partition(MARK)[0] + f"{MARK}\n\n{results}\n"
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
