"""The methods by name, and schedules from their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from mlc_hooks.hints import known_names, nearest
from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_choice
from mlc_losses.schedules.adaptive.dwa import DynamicWeightAverage
from mlc_losses.schedules.adaptive.inverse import Inverse
from mlc_losses.schedules.adaptive.relobralo import ReLoBRaLo
from mlc_losses.schedules.adaptive.schedule import AdaptiveSchedule
from mlc_losses.schedules.adaptive.softadapt import SoftAdapt
from mlc_losses.schedules.adaptive.uncertainty import UncertaintySchedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_losses.protocols import LossSchedule

__all__ = ["METHODS", "make_adaptive"]

METHODS = {one.name: one for one in (DynamicWeightAverage, Inverse, ReLoBRaLo, SoftAdapt)}
COMMON = {"ema", "hold", "max_weight", "min_weight"}


def make_adaptive(method: str, settings: Mapping[str, Any]) -> LossSchedule:
    """Make the adaptive schedule of *method* with its *settings*.

    Raises:
        LossConfigError: If there is no such method, or it does not take a setting.
    """
    require_choice("method", method, (*METHODS, "uncertainty"))
    kind = METHODS.get(method)
    own = set() if kind is None else {one.name for one in attrs.fields(kind)}
    smooths = kind is not None and kind.default_rho is not None
    known = {*own, *(COMMON if kind else ()), *(["rho"] if smooths else [])}
    for key in settings:
        if key not in known:
            close = nearest(key, known)
            msg = f"adaptive method {method!r} does not take {key!r}.{close} {known_names('It takes', known)}"
            raise LossConfigError(msg)
    if kind is None:
        return UncertaintySchedule()
    made = kind(**{key: value for key, value in settings.items() if key in own})
    shared = {key: value for key, value in settings.items() if key not in own}
    return AdaptiveSchedule(method=made, **{"ema": kind.default_ema, "rho": kind.default_rho or 0.0, **shared})
