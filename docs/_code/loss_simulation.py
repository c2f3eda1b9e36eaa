"""A training run in three numbers: logits that stand on the right side by a margin, with noise."""

from __future__ import annotations

import torch
from torch import Tensor

from mlc_losses import LossManager, get_preset_loss_config

STAGES = {"start": (0.0, 0.1), "middle": (2.0, 1.5), "end": (6.0, 2.0)}
"""Margin and noise of the logits: each is `margin` on the right side of 0, plus `noise` times a normal number."""


def draw(margin: float, noise: float) -> tuple[Tensor, Tensor]:
    """Return logits and target of four images of 100 by 100, a tenth of each foreground."""
    draw_from = torch.Generator().manual_seed(0)
    target = (torch.arange(100) < 10).expand(4, 1, 100, 100)
    normal = torch.randn(4, 1, 100, 100, generator=draw_from)
    return margin * torch.where(target, 1.0, -1.0) + noise * normal, target


def shares(preset: str, pred: Tensor, target: Tensor) -> tuple[float, float]:
    """Return which part of *preset*'s value, and of its gradients' norms, comes from its second component."""
    loss = LossManager.create_loss_function(get_preset_loss_config(preset))
    pred = pred.clone().requires_grad_()
    found = loss.break_down(pred, target).parts[1]
    norms = {
        name: loss.weights[name] * torch.autograd.grad(component(pred, target), pred)[0].norm().item()
        for name, component in loss.components.items()
    }
    return found.share.item(), norms[found.name] / sum(norms.values())


def dice_of(pred: Tensor, target: Tensor) -> float:
    """Return the Dice of *pred* cut at 0.5."""
    found = pred > 0
    return 2 * (found & target).sum().item() / (found.sum() + target.sum()).item()
