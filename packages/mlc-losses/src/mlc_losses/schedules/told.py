"""What a scheduler can tell a schedule: numbers from metrics, from the loss's own record, and from all processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from mlc_losses.errors import LossConfigError, LossInputError
from mlc_losses.schedules.options import require_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_losses.recording import Recorder

__all__ = ["average_processes", "count_processes", "read_epoch", "read_losses", "read_metrics"]


def read_epoch(epoch: object) -> int | None:
    """Return *epoch* if it is a number from 0, or `None`.

    Raises:
        LossConfigError: If it is anything else, such as the metrics.
    """
    if isinstance(epoch, Mapping):
        msg = f"epoch is {epoch!r}; metrics are the second argument: step(epoch, metrics), or step(metrics=metrics)"
        raise LossConfigError(msg)
    return None if epoch is None else require_count("epoch", epoch)


def read_metrics(metrics: object) -> dict[str, float]:
    """Return what of *metrics* is one number, as floats.

    Raises:
        LossInputError: If *metrics* is no mapping from names.
    """
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping) or not all(isinstance(name, str) for name in metrics):
        msg = f"metrics are {metrics!r}; give numbers by name, such as {{'val_dice': 0.8}}"
        raise LossInputError(msg)
    found = {name: _number(one) for name, one in metrics.items()}
    return {name: one for name, one in found.items() if one is not None}


def _number(one: object) -> float | None:
    """Return *one* as a float: a number, or an array or tensor of one number, whoever made it."""
    size = one.numel() if isinstance(one, torch.Tensor) else getattr(one, "size", None)
    item = getattr(one, "item", None)
    if isinstance(size, int) and size == 1 and callable(item):
        one = item()
    return None if isinstance(one, bool) or not isinstance(one, Real) else float(one)


def read_losses(
    names: Sequence[str], metrics: Mapping[str, float], recorder: Recorder, *, prefix: str
) -> dict[str, float]:
    """Return the value of each component: from *metrics*, or the mean of what the loss recorded.

    Where all recorded batches were left out because they were not finite, the values are NaN.

    Raises:
        LossInputError: If *metrics* have some components and not others, or nobody has any.
    """
    keys = {name: f"{prefix}{name}_loss" for name in names}
    given = [name for name in names if keys[name] in metrics]
    if len(given) == len(names):
        return {name: metrics[keys[name]] for name in names}
    if given:
        missing = [keys[name] for name in names if name not in given]
        msg = (
            f"metrics have {[keys[name] for name in given]} but not {missing}; give the numbers of all components, "
            f"which get_loss_components returns, or of none"
        )
        raise LossInputError(msg)
    state = recorder.state()
    if state["added"] > 0:
        return {name: one / state["added"] for name, one in state["sums"].items()}
    if state["left_out"] > 0:
        return dict.fromkeys(names, math.nan)
    msg = (
        f"the schedule goes by the values of {list(names)}, and there are none: since the last step the loss was not "
        f"called in training mode with a gradient, and metrics have no {' or '.join(map(repr, keys.values()))}. Train "
        f"before each step, or hand them to step(epoch, metrics)"
    )
    raise LossInputError(msg)


def count_processes() -> int:
    """Return how many processes the default group has, or 1 without one."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def average_processes(numbers: Mapping[str, float] | None) -> dict[str, float] | None:
    """Return the mean of *numbers* over all processes of the default group; all must call it together.

    Raises:
        LossInputError: If processes have different names.
    """
    if numbers is None or count_processes() == 1:
        return None if numbers is None else dict(numbers)
    everyone: list[Any] = [None] * count_processes()
    distributed.all_gather_object(everyone, dict(numbers))
    names = [sorted(one) for one in everyone]
    if any(one != names[0] for one in names):
        msg = f"processes have numbers of different names: {names}; hand the same metrics to step in each"
        raise LossInputError(msg)
    return {name: sum(one[name] for one in everyone) / len(everyone) for name in numbers}
