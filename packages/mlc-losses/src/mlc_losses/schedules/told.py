"""What a scheduler can tell a schedule: numbers from metrics, from the loss's own record, and from all processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import distributed

from mlc_hooks import MlcError
from mlc_losses.errors import LossConfigError, LossInputError
from mlc_losses.schedules.options import require_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlc_losses.recording import Recorder

__all__ = ["Heard", "count_processes", "hear_processes", "read_losses", "read_metrics", "read_time"]


@attrs.frozen(kw_only=True)
class Heard:
    """What a scheduler goes by at one step."""

    time: int
    """How many epochs are over."""
    metrics: Mapping[str, float]
    losses: Mapping[str, float] | None
    """The value of each component, NaN where none was finite, for schedules that want them."""
    count: float
    """Of how many batches *losses* are the mean."""


def read_time(epoch: object, before: int) -> int:
    """Return how many epochs are over after *epoch*, which is counted from 0; one more than *before* if it is `None`.

    Raises:
        LossConfigError: If it is no such number, such as the metrics, or an epoch that was over *before*.
    """
    if isinstance(epoch, Mapping):
        msg = f"epoch is {epoch!r}; metrics are the second argument: step(epoch, metrics), or step(metrics=metrics)"
        raise LossConfigError(msg)
    if epoch is None:
        return before + 1
    time = require_count("epoch", epoch) + 1
    if time <= before:
        msg = (
            f"epoch is {epoch!r}, but the last step left {before} epochs behind (0 to {before - 1}); step once at the "
            f"end of each epoch, or without epoch to count calls, and to go back load the scheduler's state of then"
        )
        raise LossConfigError(msg)
    return time


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
) -> tuple[dict[str, float], float]:
    """Return the value of each component and how much it counts: from *metrics*, or the mean of what was recorded.

    Where all recorded batches were left out because they were not finite, the values are NaN.

    Raises:
        LossInputError: If *metrics* have some components and not others, or nobody has any.
    """
    keys = {name: f"{prefix}{name}_loss" for name in names}
    given = [name for name in names if keys[name] in metrics]
    if len(given) == len(names):
        return {name: metrics[keys[name]] for name in names}, 1.0
    if given:
        missing = [keys[name] for name in names if name not in given]
        msg = (
            f"metrics have {[keys[name] for name in given]} but not {missing}; give the numbers of all components, "
            f"which get_loss_components returns, or of none"
        )
        raise LossInputError(msg)
    state = recorder.state()
    if state["added"] > 0:
        return {name: one / state["added"] for name, one in state["sums"].items()}, state["added"]
    if state["left_out"] > 0:
        return dict.fromkeys(names, math.nan), 0.0
    msg = (
        f"the schedule goes by the values of {list(names)}, and there are none: since the last step the loss was not "
        f"called in training mode with a gradient, and metrics have no {' or '.join(map(repr, keys.values()))}. Train "
        f"before each step, or hand them to step(epoch, metrics)"
    )
    raise LossInputError(msg)


def count_processes() -> int:
    """Return how many processes the default group has, or 1 without one."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def hear_processes(hear: Callable[[], Heard]) -> Heard:
    """Return the mean of what all processes of the default group *hear*; all must call it together.

    Losses weigh by how many batches they are the mean of. What one of them refuses is refused in all, so that none is
    left waiting for the others.

    Raises:
        MlcError: What the first of them raised, or a LossInputError if they have different names or times.
    """
    if count_processes() == 1:
        return hear()
    mine: Heard | MlcError
    try:
        mine = hear()
    except MlcError as error:
        mine = error
    everyone: list[Any] = [None] * count_processes()
    distributed.all_gather_object(everyone, mine)
    for rank, one in enumerate(everyone):
        if isinstance(one, MlcError):
            msg = f"in process {rank} of {len(everyone)}: {one}"
            raise type(one)(msg)
    for what, said in (
        ("numbers of different names", [sorted(one.metrics) for one in everyone]),
        ("different numbers of epochs behind them", [one.time for one in everyone]),
    ):
        if any(one != said[0] for one in said):
            msg = f"processes have {what}: {said}; hand the same epoch and metrics to step in each"
            raise LossInputError(msg)
    return Heard(
        time=everyone[0].time,
        metrics=_average([(one.metrics, 1.0) for one in everyone]),
        losses=None if everyone[0].losses is None else _average([(one.losses, one.count) for one in everyone]),
        count=sum(one.count for one in everyone),
    )


def _average(told: Sequence[tuple[Mapping[str, float], float]]) -> dict[str, float]:
    """Return the mean of numbers by name that count so much each, NaN where none does."""
    total = sum(count for _, count in told)
    if not total:
        return dict.fromkeys(told[0][0], math.nan)
    return {name: sum(one[name] * count for one, count in told if count) / total for name in told[0][0]}
