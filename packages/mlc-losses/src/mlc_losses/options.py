"""What the options of losses may be, and the refusal of everything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from mlc_hooks.hints import known_names, nearest
from mlc_losses.errors import LossConfigError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "EMPTIES",
    "MODES",
    "REDUCTIONS",
    "Empty",
    "LossOptions",
    "Mode",
    "Reduction",
    "RegionOptions",
    "require_background",
    "require_batch",
    "require_choice",
    "require_class_weights",
    "require_distributed",
    "require_flag",
    "require_index",
    "require_number",
]

Mode = Literal["binary", "multilabel", "multiclass"]
Reduction = Literal["mean", "sum", "sample", "none"]
Empty = Literal["volume", "formula", "skip"]

MODES = ("binary", "multilabel", "multiclass")
REDUCTIONS = ("mean", "sum", "sample", "none")
EMPTIES = ("volume", "formula", "skip")


class LossOptions(TypedDict, total=False):
    """What every loss that follows from sums takes; `mlc_losses.base.SummedLoss` says what each means."""

    mode: Mode
    from_logits: bool
    ignore_index: int | None
    reduction: Reduction
    distributed: bool
    check_inputs: bool


class RegionOptions(LossOptions, total=False):
    """What every loss over regions takes; `mlc_losses.region.RegionLoss` says what each means."""

    smooth: float
    smooth_nr: float | None
    smooth_dr: float | None
    squared_pred: bool
    batch: bool
    include_background: bool
    class_weights: Sequence[float] | None
    empty: Empty
    label_smoothing: float


def require_number(name: str, value: object, *, low: float = 0.0, high: float = math.inf) -> float:
    """Return *value* as a float between *low* and *high*, both included.

    Raises:
        LossConfigError: If it is not a finite number in that range.
    """
    bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
    if isinstance(value, bool) or not isinstance(value, Real):
        hint = " (YAML reads 1e-6 as text; write 1.0e-6)" if isinstance(value, str) else ""
        msg = f"{name} is {value!r}, a {type(value).__name__}; give a number, {bounds}{hint}"
        raise LossConfigError(msg)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (low <= number <= high and math.isfinite(number)):
        msg = f"{name} is {value!r}; give a finite number, {bounds}"
        raise LossConfigError(msg)
    return number


def require_flag(name: str, value: object) -> bool:
    """Return *value* if it is true or false.

    Raises:
        LossConfigError: If it is anything else: "no" would count as true.
    """
    if not isinstance(value, bool):
        msg = f"{name} is {value!r}; give True or False"
        raise LossConfigError(msg)
    return value


def require_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Refuse a *value* that is not one of the *choices*.

    Raises:
        LossConfigError: Naming what is close.
    """
    if value not in tuple(choices):
        msg = f"{name} is {value!r}.{nearest(str(value), choices)} {known_names('Known', choices)}"
        raise LossConfigError(msg)


def require_background(value: object, *, mode: Mode) -> bool:
    """Return whether the background counts, which is channel 0.

    Raises:
        LossConfigError: If *value* is neither true nor false, or *mode* has no other channel.
    """
    if not require_flag("include_background", value) and mode == "binary":
        msg = "include_background=False leaves channel 0 out, and mode='binary' has no other"
        raise LossConfigError(msg)
    return bool(value)


def require_batch(value: object, *, reduction: Reduction) -> bool:
    """Return whether regions are of the whole batch.

    Raises:
        LossConfigError: If *value* is neither true nor false, or *reduction* keeps samples apart.
    """
    if require_flag("batch", value) and reduction == "sample":
        msg = "batch=True makes regions of all samples together, and reduction='sample' keeps them apart; give one"
        raise LossConfigError(msg)
    return bool(value)


def require_distributed(value: object, *, reduction: Reduction) -> bool:
    """Return whether sums go over processes.

    Raises:
        LossConfigError: If *value* is neither true nor false, or *reduction* keeps samples apart.
    """
    if require_flag("distributed", value) and reduction not in {"mean", "sum"}:
        msg = f"distributed=True adds up processes, but reduction={reduction!r} keeps apart; give 'mean' or 'sum'"
        raise LossConfigError(msg)
    return bool(value)


def require_index(name: str, value: Any) -> int | None:
    """Return *value* as an integer, or `None`.

    Raises:
        LossConfigError: If it is anything else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral) or not -(2**63) <= int(value) < 2**63:
        msg = f"{name} is {value!r}; give an integer of 64 bits, or None"
        raise LossConfigError(msg)
    return int(value)


def require_class_weights(value: object, *, mode: Mode) -> tuple[float, ...] | None:
    """Return *value* as one weight for each class, or `None`.

    Raises:
        LossConfigError: If it is no sequence of numbers of at least 0 with one above it, or *mode* has one channel.
    """
    if value is None:
        return None
    if mode == "binary":
        msg = "class_weights weigh channels against each other, and mode='binary' has one; leave them out"
        raise LossConfigError(msg)
    value = value.tolist() if hasattr(value, "tolist") else value  # tensors and arrays of numbers
    if isinstance(value, str) or not isinstance(value, Sequence):
        msg = f"class_weights is {value!r}; give a list with one number for each channel"
        raise LossConfigError(msg)
    weights = tuple(require_number(f"class_weights[{number}]", one) for number, one in enumerate(value))
    if len(weights) < 2 or not any(weights):
        msg = f"class_weights is {value!r}; give one number for each channel, two at least, and not all 0"
        raise LossConfigError(msg)
    return weights
