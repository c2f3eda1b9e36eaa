"""Losses and metrics of a model over batches, without training it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from mlc_trainer.distributed import ALONE, Cut
from mlc_trainer.errors import ConfigError
from mlc_trainer.metrics import as_number
from mlc_trainer.modes import modes_of, restore_modes
from mlc_trainer.randomness import MEASURE, mix, seed_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor, nn

    from mlc_losses import Loss
    from mlc_trainer.distributed import World
    from mlc_trainer.metrics import Metric
    from mlc_trainer.precision import Precision

__all__ = [
    "FORMATS",
    "bind_loss",
    "change_tensors",
    "device_of",
    "lay_out",
    "measure",
    "split",
    "take_none",
    "take_up",
    "tensors_in",
    "to_channels_last",
]

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""The layout with the channels last, by the number of dimensions."""


def split(batch: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return input and target of *batch*, on *device*.

    Raises:
        ConfigError: If it is no pair.
    """
    if not isinstance(batch, (list, tuple)) or len(batch) != 2:
        what = f"{len(batch)} parts" if isinstance(batch, (list, tuple)) else f"a {type(batch).__name__}"
        msg = f"a batch is {what}; a dataset must give pairs of input and target"
        raise ConfigError(msg)
    inputs, targets = batch
    for name, one in (("input", inputs), ("target", targets)):
        if not isinstance(one, torch.Tensor):
            msg = f"the {name} of a batch is a {type(one).__name__} and must be a tensor; let the dataset give tensors"
            raise ConfigError(msg)
    if inputs.is_cpu and targets.is_cpu and device.type == "cpu":  # each call of `to` takes a microsecond
        return inputs, targets
    return inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)


def device_of(model: nn.Module) -> torch.device:
    """Return where *model* is; without weights it is on the CPU."""
    return next((one.device for one in model.parameters()), torch.device("cpu"))


def lay_out(images: Tensor) -> Tensor:
    """Return *images* `(B, C, *spatial)` with the channels last in memory, where there are two or three dimensions."""
    return images.to(memory_format=FORMATS[images.ndim]) if images.ndim in FORMATS else images


def to_channels_last(model: nn.Module) -> nn.Module:
    """Lay out the weights of *model* that are kernels over two or three dimensions with the channels last."""
    for one in model.parameters():
        if one.ndim in FORMATS:
            one.data = one.data.to(memory_format=FORMATS[one.ndim])
    return model


def take_up(optimizer: torch.optim.Optimizer) -> None:
    """Make *optimizer*, just restored, what it was: a checkpoint does not say how its tensors are laid out.

    They are as the weights themselves are. And it has taken steps, or torch would warn of a schedule that is stepped
    before it takes one in this process.
    """
    optimizer._opt_called = True  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way to say so
    for weight, kept in optimizer.state.items():
        for name, one in kept.items():
            if isinstance(one, torch.Tensor) and one.shape == weight.shape and one.stride() != weight.stride():
                kept[name] = torch.empty_like(weight, dtype=one.dtype).copy_(one)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of *value*: a tensor, or what a model returned that holds several."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple, Mapping)):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(one)


def change_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return *value*, a tensor or lists, tuples and mappings of some, with each of them changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: change_tensors(one, change) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        changed = [change_tensors(one, change) for one in value]
        return value._make(changed) if hasattr(value, "_make") else type(value)(changed)
    return value


def take_none(value: Any) -> Any:
    """Return *value*, what a model returned, with none of its samples, and the graph that leads to them."""
    return change_tensors(value, lambda one: one[:0])


def bind_loss(loss: Loss) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """Return what takes prediction and target, and returns the `loss`, with its graph, and each of its components."""
    components = getattr(loss, "get_loss_components", None)  # a module without it takes two microseconds to say so
    if components is None:
        return lambda prediction, targets: {"loss": loss(prediction, targets)}

    def take_apart(prediction: Tensor, targets: Tensor) -> dict[str, Tensor]:
        values: dict[str, Tensor] = components(prediction, targets)
        parts = {name: one for name, one in values.items() if name.endswith("_loss")}  # weights and shares follow
        return {"loss": values["total"], **parts}

    return take_apart


def measure(
    model: torch.nn.Module,
    batches: Iterable[Sequence[Tensor]],
    *,
    loss: Loss,
    metric: Metric | None,
    device: torch.device,
    seed: int,
    precision: Precision | None = None,
    world: World = ALONE,
    length_of: Callable[[int], int] | None = None,
) -> dict[str, float]:
    """Return the mean of the loss and its components over all samples, and the *metric*, each named `val_…`.

    The model is left in the mode it was in, and nothing that training depends on changes. What a model draws at random
    even now depends on *seed* and the number of the batch only.

    Where several processes measure, each has its piece of batches whose lengths are *length_of* their numbers, or the
    whole batches, and then takes its piece. The metric of each sees all samples, in their order.

    Raises:
        ConfigError: If there is no batch, or one is no pair.
    """
    sums: dict[str, Tensor] = {}
    samples = 0
    modes = modes_of(model)  # parts that are frozen stay so
    values_of = bind_loss(loss)
    model.eval()
    try:
        with torch.no_grad():
            world.share_buffers([model])
            cut = Cut(1, world.rank, world.size)
            for number, batch in enumerate(batches):
                inputs, targets = split(batch, device)
                length = len(inputs) if length_of is None else length_of(number)
                (own,) = cut.own(length)
                if world.size > 1 and length_of is None:
                    rows = own or range(1)
                    inputs, targets = (one[rows.start : rows.stop] for one in (inputs, targets))
                seed_generators(mix(MEASURE, seed, number), device)
                with nullcontext() if precision is None else precision.cast():
                    prediction = model(inputs)
                if len(own) < len(inputs):  # there was none for this process, and it took part with another's
                    prediction, targets = take_none(prediction), targets[:0]
                for name, value in values_of(prediction, targets).items():
                    sums[name] = sums.get(name, torch.zeros((), device=device)) + value.double() * length
                samples += length
                if metric is not None and world.size == 1:
                    metric.update(prediction, targets)
                elif metric is not None:
                    ranges = [cut.of(rank, length)[0] for rank in range(world.size)]
                    join = partial(world.join, ranges=ranges)
                    metric.update(change_tensors(prediction, join), join(targets))
    finally:
        restore_modes(modes)
    if not samples:
        msg = "there is no batch to measure on"
        raise ConfigError(msg)
    numbers = {} if metric is None else {name: as_number(name, one) for name, one in metric.compute().items()}
    numbers.update({name: float(total) / samples for name, total in sums.items()})
    return {f"val_{name}": number for name, number in numbers.items()}
