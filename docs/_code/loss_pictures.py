"""Pictures of losses, drawn by calling them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import torch
from loss_simulation import STAGES, draw, shares
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from mlc_losses import LossManager
from mlc_losses.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
BLUE, RED, PINK = "#0072b2", "#d55e00", "#cc79a7"
"""Colours that colour-blind people tell apart (Okabe and Ito 2008)."""

STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "font.size": 10,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "mlc",  # the same picture is the same bytes
}

REGIONS = (
    ("Dice", {"type": "dice"}, BLUE, "-"),
    ("Jaccard", {"type": "jaccard"}, RED, "-"),
    ("Tversky 0.3, 0.7", {"type": "tversky"}, SKY, "--"),
    ("focal Tversky, gamma 0.75", {"type": "focal_tversky"}, GREEN, "-."),
    ("log-Dice", {"type": "log_dice"}, ORANGE, "-"),
    ("Lovász", {"type": "lovasz"}, BLACK, ":"),
)


def write_loss_pictures(folder: Path) -> None:
    """Draw all pictures into *folder*."""
    with mpl.rc_context(STYLE):
        for name, picture in (
            ("voxel_losses", draw_voxel_losses()),
            ("region_losses", draw_region_losses()),
            ("region_slopes", draw_region_slopes()),
            ("empty_regions", draw_empty_regions()),
            ("preset_shares", draw_preset_shares()),
        ):
            picture.savefig(folder / f"{name}.svg", metadata={"Date": None})


def make(**config: Any) -> Any:
    return LossManager.create_loss_function(config)


def value_and_slope(loss: Any, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the value of *loss*, and its gradient."""
    pred = pred.detach().requires_grad_()
    value = loss(pred, target)
    (slope,) = torch.autograd.grad(value.sum(), pred)
    return value.detach(), slope


def panels(*titles: str, height: float = 3.9, width: float = 10.0) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, len(titles), squeeze=False)[0]
    for one, title in zip(axes, titles, strict=True):
        one.set_title(title, loc="left")
    return figure, axes


def draw_voxel_losses() -> Figure:
    """Value and slope of cross entropy and focal losses against the probability of the right class."""
    figure, (left, middle, right) = panels(
        "Value", "Size of the gradient in the logit", "Focal, gamma 2, with alpha", height=3.7, width=11.0
    )
    p = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    logits = p.logit().view(1, 1, -1)
    ones = torch.ones_like(logits)
    for gamma, colour, line in ((0, BLACK, "-"), (0.5, SKY, "--"), (1, GREEN, "-."), (2, BLUE, "-"), (5, RED, ":")):
        value, slope = value_and_slope(make(type="bce", gamma=gamma, reduction="none"), logits, ones)
        label = "gamma 0: BCE, CE" if not gamma else f"gamma {gamma:g}"
        left.plot(p, value.flatten(), color=colour, ls=line, label=label)
        middle.plot(p, slope.flatten().abs(), color=colour, ls=line)
    left.set(ylim=(0, 5), ylabel="loss of one voxel")
    left.legend()
    middle.set(ylim=(0, 1.6), ylabel="|d loss / d logit|")
    for label, alpha, target, colour, line in (
        ("without alpha", None, ones, BLACK, ":"),
        ("alpha 0.25, background", 0.25, 1 - ones, RED, "--"),
        ("alpha 0.25, foreground", 0.25, ones, BLUE, "-"),
    ):
        loss = make(type="focal", alpha=alpha, reduction="none")
        value, _ = value_and_slope(loss, logits * (2 * target - 1), target)
        right.plot(p, value.flatten(), color=colour, ls=line, label=label)
    right.set(ylim=(0, 2.5), ylabel="loss of one voxel")
    right.legend()
    for one in (left, middle, right):
        one.set(xlabel="probability of the right class", xlim=(0, 1))
    return figure


def draw_region_losses() -> Figure:
    """Values of losses over regions when a hard mask is moved, and when it grows."""
    figure, (left, right) = panels(
        "A mask of the right size, moved", "A mask in the right place, too small or too large"
    )
    size, whole = 400, 4000
    target = torch.zeros(1, 1, whole, dtype=torch.float64)
    target[..., :size] = 1
    shifts = range(0, size + 1, 4)
    moved = [torch.roll(target, shift, -1) for shift in shifts]
    overlap = [(size - shift) / (size + shift) for shift in shifts]
    sizes = [round(size * 2 ** (step / 20)) for step in range(-60, 61)]
    grown = [(torch.arange(whole) < one).double().expand_as(target) for one in sizes]
    for name, config, colour, line in REGIONS:
        loss = make(from_logits=False, **config)
        left.plot(overlap, [loss(one, target) for one in moved], color=colour, ls=line, label=name)
        right.plot([one / size for one in sizes], [loss(one, target) for one in grown], color=colour, ls=line)
    loss = make(type="generalized_dice", mode="multiclass", from_logits=False)
    both = (torch.cat((1 - target, target), 1), [torch.cat((1 - one, one), 1) for one in moved])
    left.plot(overlap, [loss(one, both[0]) for one in both[1]], color=PINK, ls="-", label="generalised Dice, 2 classes")
    both = (both[0], [torch.cat((1 - one, one), 1) for one in grown])
    right.plot([one / size for one in sizes], [loss(one, both[0]) for one in both[1]], color=PINK, ls="-")
    left.set(xlabel="intersection over union", ylabel="loss", xlim=(0, 1), ylim=(0, 1.6))
    left.legend(loc="upper right")
    right.set(xlabel="size of the prediction / size of the truth", xscale="log", ylim=(0, 1.6), ylabel="loss")
    right.set_xticks([1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8], ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    right.minorticks_off()
    return figure


def draw_region_slopes() -> Figure:
    """Value and size of the gradient where every voxel's right class has the same probability."""
    figure, (left, right) = panels("Value", "Size of the gradient in the logits", height=4.1)
    target = torch.zeros(1, 1, 10_000, dtype=torch.float64)
    target[..., :1000] = 1
    q = torch.linspace(0.02, 0.995, 196, dtype=torch.float64)
    drawn = (*REGIONS[:5], ("BCE", {"type": "bce"}, BLACK, ":"))
    for name, config, colour, line in drawn:
        loss = make(**config)
        found = [value_and_slope(loss, (2 * target - 1) * one.logit(), target) for one in q]
        left.plot(q, [value for value, _ in found], color=colour, ls=line, label=name)
        right.plot(q, [slope.norm() for _, slope in found], color=colour, ls=line)
    left.set(ylabel="loss", ylim=(0, 3))
    left.legend()
    right.set(ylabel="norm of d loss / d logits", yscale="log", ylim=(1e-5, 0.1))
    for one in (left, right):
        one.set(xlabel="probability of the right class, in every voxel", xlim=(0, 1))
    return figure


def draw_empty_regions() -> Figure:
    """Value and gradient of a Dice loss on a mask without foreground."""
    figure, (left, right) = panels("Value", "Gradient in the p of each false positive")
    whole = 10_000
    target = torch.zeros(1, 1, whole, dtype=torch.float64)
    counts = sorted({round(10 ** (step / 10)) for step in range(41)})
    fractions = [one / whole for one in counts]
    for name, config, colour, line in (
        ("volume (the default)", {"empty": "volume"}, BLUE, "-"),
        ("formula, smooth 1", {"empty": "formula", "smooth": 1.0}, GREEN, "-."),
        ("formula, smooth 1e-6", {"empty": "formula"}, RED, "--"),
        ("skip", {"empty": "skip"}, BLACK, ":"),
    ):
        loss = make(type="dice", from_logits=False, **config)
        found = [value_and_slope(loss, (torch.arange(whole) < one).double().view(1, 1, -1), target) for one in counts]
        left.plot(fractions, [value for value, _ in found], color=colour, ls=line, label=name)
        slopes = [slope[0, 0, 0].item() for _, slope in found]
        right.plot(fractions, [one or math.nan for one in slopes], color=colour, ls=line, label=name)
    left.set(ylabel="loss", ylim=(-0.03, 1.05))
    left.legend(loc="center", bbox_to_anchor=(0.52, 0.5))
    right.set(ylabel="d loss / d p", yscale="log", ylim=(1e-15, 10))
    right.text(1e-4, 2e-15, " skip: 0 everywhere", va="bottom")
    for one in (left, right):
        one.set(xlabel="false positives, part of all voxels", xscale="log", xlim=(1e-4, 1))
    return figure


def draw_preset_shares() -> Figure:
    """What the voxel by voxel half of each preset contributes while the margin of the logits grows."""
    figure, (left, right) = panels("Share of the value", "Share of the gradient")
    lines = (BLUE, "-"), (BLACK, "-"), (GREEN, "-."), (RED, "--"), (ORANGE, "-")
    steps = torch.linspace(0, 1, 25).tolist()
    stages = list(STAGES.values())
    cases = [draw(*_between(stages, step)) for step in steps]
    for name, (colour, line) in zip(PRESETS, lines, strict=True):
        found = [shares(name, *case) for case in cases]
        left.plot(steps, [value for value, _ in found], color=colour, ls=line, label=name)
        right.plot(steps, [slope for _, slope in found], color=colour, ls=line)
    left.legend(loc="upper right")
    for one in (left, right):
        one.set(xlim=(0, 1), ylim=(0, 0.75), ylabel="share of BCE or focal")
        one.yaxis.set_major_formatter(PercentFormatter(1))
        one.set_xticks([0, 0.5, 1], list(STAGES))
    return figure


def _between(stages: Sequence[tuple[float, float]], step: float) -> tuple[float, float]:
    """Return margin and noise at *step* from 0 to 1, on straight lines between the *stages*."""
    (start, middle, end) = stages
    first, second, part = (start, middle, 2 * step) if step < 0.5 else (middle, end, 2 * step - 1)
    return tuple(a + part * (b - a) for a, b in zip(first, second, strict=True))
