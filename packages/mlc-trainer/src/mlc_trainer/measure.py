"""Losses and metrics of a model over batches, without training it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlc_losses import Loss
    from torch import Tensor

    from mlc_trainer.metrics import Metric

__all__ = ["loss_values", "measure"]


def loss_values(loss: Loss, prediction: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return the `loss`, with its graph, and each of its components where it has some."""
    components = getattr(loss, "get_loss_components", None)
    if components is None:
        return {"loss": loss(prediction, targets)}
    values: dict[str, Tensor] = dict(components(prediction, targets))
    return {"loss": values.pop("total"), **values}


def measure(
    model: torch.nn.Module,
    batches: Iterable[Sequence[Tensor]],
    *,
    loss: Loss,
    metric: Metric | None,
    device: torch.device,
) -> dict[str, float]:
    """Return the mean of the loss and its components over all samples, and the *metric*, each named `val_…`.

    The model is left in the mode it was in, and nothing that training depends on changes.
    """
    sums: dict[str, Tensor] = {}
    samples = 0
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                inputs, targets = (part.to(device, non_blocking=True) for part in batch)
                prediction = model(inputs)
                for name, value in loss_values(loss, prediction, targets).items():
                    sums[name] = sums.get(name, torch.zeros((), device=device)) + value.double() * len(inputs)
                samples += len(inputs)
                if metric is not None:
                    metric.update(prediction, targets)
    finally:
        model.train(was_training)
    numbers = dict(metric.compute()) if metric is not None else {}
    numbers.update({name: float(total) / samples for name, total in sums.items()})
    return {f"val_{name}": number for name, number in numbers.items()}
