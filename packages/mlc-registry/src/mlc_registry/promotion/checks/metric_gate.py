"""A metric must be good enough, or no worse than what the stage has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlc_registry.errors import PolicyError
from mlc_registry.metrics import metrics_of
from mlc_registry.requirements import show

if TYPE_CHECKING:
    from mlc_registry.records import ModelVersion, Promotion

__all__ = ["MetricGate"]


class MetricGate:
    """Compares one metric with limits, and with the version that the stage points to.

    The metric is that of `tracking.metrics`, or else of `metadata["metrics"]`.

    Args:
        metric: Its name.
        minimum: What it must reach.
        maximum: What it must not exceed.
        not_worse: Whether it must be as good as that of the version that the stage points to, if there is one.
        mode: Whether "max" or "min" is better; only *not_worse* asks.
        tolerance: By how much it may be worse all the same.

    Raises:
        PolicyError: If nothing would be compared, or nothing could pass.
    """

    def __init__(
        self,
        *,
        metric: str,
        minimum: float | None = None,
        maximum: float | None = None,
        not_worse: bool = False,
        mode: str = "max",
        tolerance: float = 0.0,
    ) -> None:
        if not _is_kind(metric, str) or not metric:
            _refuse(f"metric={metric!r} names no metric")
        for name, value in (("minimum", minimum), ("maximum", maximum), ("tolerance", tolerance)):
            if value is not None and not _is_number(value):
                _refuse(f"{name}={value!r} must be a number")
        if not _is_kind(not_worse, bool):
            _refuse(f"not_worse={not_worse!r} must be true or false")
        if mode not in {"max", "min"}:
            _refuse(f"mode={mode!r} must be 'max' or 'min'")
        if tolerance < 0:
            _refuse(f"tolerance={tolerance!r} must not be negative")
        if minimum is None and maximum is None and not not_worse:
            _refuse("give a minimum, a maximum, or not_worse = true")
        if minimum is not None and maximum is not None and minimum > maximum:
            _refuse(f"nothing is at least {minimum:g} and at most {maximum:g}")
        self._metric = metric
        self._minimum = minimum
        self._maximum = maximum
        self._not_worse = not_worse
        self._sign = 1 if mode == "max" else -1
        self._tolerance = tolerance

    def object_to(self, promotion: Promotion) -> str:
        """Return what the metric misses."""
        value = _find_metric(promotion.version, self._metric)
        if isinstance(value, str):
            return f"{value}; publish a version that states it"
        missed = []
        if self._minimum is not None and value < self._minimum:
            missed.append(f"at least {self._minimum:g} is asked for")
        if self._maximum is not None and value > self._maximum:
            missed.append(f"at most {self._maximum:g} is asked for")
        if self._not_worse and promotion.current is not None:
            missed += self._compare(value, promotion.current, promotion.stage)
        return f"{self._metric} is {value:g}, and {'; '.join(missed)}. Train a better one" if missed else ""

    def _compare(self, value: float, current: ModelVersion, stage: str) -> list[str]:
        there = _find_metric(current, self._metric)
        if isinstance(there, str):
            return [f"cannot be compared with what {stage} has: {there}"]
        if self._sign * value < self._sign * there - self._tolerance:
            spare = f", with a tolerance of {self._tolerance:g}" if self._tolerance else ""
            return [f"{current.version}, which {stage} has, has {there:g}{spare}"]
        return []


def _find_metric(version: ModelVersion, name: str) -> float | str:
    """Return the metric, or why there is none."""
    metrics = metrics_of(version)
    if name in metrics:
        return metrics[name]
    stated = version.metadata.get("metrics")
    if isinstance(stated, Mapping) and name in stated:
        value = show(stated[name])
        return f"the metric {name!r} of {version.version} is {value}, which is no number that can be compared"
    if name in version.metadata:
        return (
            f"{version.version} has {name!r} in its metadata, where it is no metric; state it in `tracking` (--metric)"
        )
    return f"{version.version} has no metric {name!r} (it has: {', '.join(sorted(metrics)) or 'none'})"


def _is_kind(value: object, kind: type) -> bool:
    return isinstance(value, kind)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _refuse(why: str) -> None:
    msg = f"metric_gate: {why}"
    raise PolicyError(msg)
