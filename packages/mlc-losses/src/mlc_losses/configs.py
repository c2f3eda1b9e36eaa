"""From configuration dictionaries to losses."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlc_hooks.hints import known_names, nearest
from mlc_losses.catalogs import losses
from mlc_losses.errors import LossConfigError

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlc_losses.combined import CombinedLoss
    from mlc_losses.protocols import Loss

__all__ = ["make_combined", "make_loss", "read_type"]

OF_PRED = ("from_logits", "mode")
"""Options that are facts about *pred*, which all components of a combination read: said once, for all."""


def read_type(config: object) -> str:
    """Return the name of the loss that *config* asks for.

    Raises:
        LossConfigError: If *config* is no mapping, names no type, or asks for what this release does not have.
    """
    if not isinstance(config, Mapping):
        msg = f"a loss configuration is a dictionary such as {{'type': 'dice'}}, not {config!r}"
        raise LossConfigError(msg)
    for key in config:
        if not isinstance(key, str):
            msg = f"a loss configuration has names for keys, not {key!r}"
            raise LossConfigError(msg)
    if "scheduler" in config:
        msg = "the configuration has a 'scheduler'; loss-weight schedules are not part of this release: leave it out"
        raise LossConfigError(msg)
    name = config.get("type")
    if not isinstance(name, str):
        close = nearest("type", config)
        msg = f"the configuration's 'type' is {name!r}.{close} {known_names('Known', losses().names())}"
        raise LossConfigError(msg)
    return name


def make_loss(name: str, options: Mapping[str, Any]) -> Loss:
    """Make the loss called *name* with the *options* that its factory takes.

    Raises:
        UnknownNameError: If nobody offers *name*.
        LossConfigError: If it does not take an option, naming what is close, or takes another value.
    """
    catalog = losses()
    parameters = inspect.signature(catalog.factory(name)).parameters.values()
    if not any(one.kind is one.VAR_KEYWORD for one in parameters):
        _refuse_unknown(f"loss {name!r}", options, [one.name for one in parameters])
    return catalog.make(name, **options)


def make_combined(settings: Mapping[str, Any]) -> CombinedLoss:
    """Make the combination that *settings* describe: `<name>_weight`, `<name>_config`, and facts about *pred*.

    Raises:
        UnknownNameError: If nobody offers a component's name.
        LossConfigError: If a key, a weight or an option cannot be followed.
    """
    names = [key.removesuffix("_weight") for key in settings if key.endswith("_weight")]
    known = {*OF_PRED, "check_inputs", *(f"{name}_{what}" for name in names for what in ("weight", "config"))}
    for key in settings:
        if key not in known:
            raise LossConfigError(_explain_key(key, known))
    if not names:
        msg = "a combined loss needs components: 'dice_weight': 0.7, 'bce_weight': 0.3"
        raise LossConfigError(msg)
    said = {key: settings[key] for key in OF_PRED if key in settings}
    checks = {"check_inputs": settings["check_inputs"]} if "check_inputs" in settings else {}
    made = {name: make_loss(name, {**said, **_read_options(settings, name)}) for name in names}
    from mlc_losses.combined import CombinedLoss

    return CombinedLoss(made, {name: settings[f"{name}_weight"] for name in names}, **checks)


def _read_options(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    key = f"{name}_config"
    options = settings.get(key, {})
    if not isinstance(options, Mapping):
        msg = f"{key} is {options!r}; give a dictionary of options"
        raise LossConfigError(msg)
    for shared in (*OF_PRED, "check_inputs"):
        if shared in options:
            msg = f"{key} has {shared!r}, which holds for all components; say it beside {name}_weight"
            raise LossConfigError(msg)
    return options


def _explain_key(key: str, known: Collection[str]) -> str:
    offered = losses().names()
    name = key.removesuffix("_config")
    if name != key and name in offered:
        return f"{key!r} would be unused, since there is no {name}_weight; give one, or leave it out"
    close = nearest(key, known) or nearest(key, [f"{one}_weight" for one in offered])
    return f"a combined loss does not take {key!r}.{close} {known_names('Here it takes', known)}"


def _refuse_unknown(what: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    for key in given:
        if key not in known:
            msg = f"{what} does not take {key!r}.{nearest(key, known)} {known_names('It takes', known)}"
            raise LossConfigError(msg)
