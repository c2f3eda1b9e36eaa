"""From configuration dictionaries to schedules."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlc_hooks.hints import known_names, nearest
from mlc_losses.catalogs import loss_schedules
from mlc_losses.errors import LossConfigError
from mlc_losses.schedules.options import copy_plain

if TYPE_CHECKING:
    from mlc_losses.protocols import LossSchedule

__all__ = ["make_schedule", "read_schedule_config"]

KEYS = ("type", "params", "prefix", "distributed")


def read_schedule_config(config: object) -> dict[str, Any]:
    """Return *config* with its keys checked.

    Raises:
        LossConfigError: If it is no mapping, lacks a type, or has a key that belongs elsewhere.
    """
    if not isinstance(config, Mapping):
        msg = f"the configuration of a loss scheduler is a dictionary such as {{'type': 'adaptive'}}, not {config!r}"
        raise LossConfigError(msg)
    for key in config:
        if key not in KEYS:
            close = nearest(str(key), KEYS) or " An option of the schedule goes into 'params'."
            msg = f"a loss scheduler does not take {key!r}.{close} {known_names('Here it takes', KEYS)}"
            raise LossConfigError(msg)
    if not isinstance(config.get("type"), str):
        known = known_names("Known", loss_schedules().names())
        msg = f"the scheduler configuration's 'type' is {config.get('type')!r}. {known}"
        raise LossConfigError(msg)
    params = config.get("params")
    if params is not None and (not isinstance(params, Mapping) or not all(isinstance(key, str) for key in params)):
        msg = f"params is {params!r}; give a dictionary of the schedule's options, or leave it out"
        raise LossConfigError(msg)
    return dict(config)


def make_schedule(name: str, options: Mapping[str, Any]) -> LossSchedule:
    """Make the schedule called *name* with copies of the *options* that its factory takes.

    Raises:
        UnknownNameError: If nobody offers *name*.
        LossConfigError: If it does not take an option, naming what is close, or takes another value.
    """
    parameters = inspect.signature(loss_schedules().factory(name)).parameters
    if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        for key in options:
            if key not in parameters:
                known = known_names("It takes", parameters)
                msg = f"loss schedule {name!r} does not take {key!r}.{nearest(key, parameters)} {known}"
                raise LossConfigError(msg)
    return loss_schedules().make(name, **copy_plain(options))
