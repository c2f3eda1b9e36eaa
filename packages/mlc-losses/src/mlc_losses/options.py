"""What the options of losses may be, and the refusal of everything else."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Literal

from mlc_hooks.hints import known_names, nearest
from mlc_losses.errors import LossConfigError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "EMPTIES",
    "MODES",
    "REDUCTIONS",
    "Empty",
    "Mode",
    "Reduction",
    "require_choice",
    "require_flag",
    "require_number",
]

Mode = Literal["binary", "multilabel"]
Reduction = Literal["mean", "sum", "none"]
Empty = Literal["volume", "smooth", "skip"]

MODES = ("binary", "multilabel")
REDUCTIONS = ("mean", "sum", "none")
EMPTIES = ("volume", "smooth", "skip")


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
    number = float(value)
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
    if value not in choices:
        msg = f"{name} is {value!r}.{nearest(str(value), choices)} {known_names('Known', choices)}"
        raise LossConfigError(msg)
