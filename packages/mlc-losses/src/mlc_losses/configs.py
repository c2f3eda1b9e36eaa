"""From configuration dictionaries to losses."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlc_hooks.hints import known_names, nearest
from mlc_losses.catalogs import losses
from mlc_losses.errors import LossConfigError

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlc_losses.combined import CombinedLoss
    from mlc_losses.protocols import Loss

__all__ = ["make_combined", "make_loss", "make_supervised", "read_config"]

FACTS = ("mode", "from_logits", "ignore_index")
"""Facts about the tensors, which all components of a combination read: said once, for all."""

SPREAD = {"label_smoothing": 0, "reduction": "mean", "distributed": False}
"""Options that a combination hands on to all of its components, or that each may have by itself, and their defaults."""


def read_config(config: object) -> tuple[str, dict[str, Any]]:
    """Return the name of the loss that *config* asks for, and its options.

    Raises:
        LossConfigError: If *config* is no mapping, names no type, or holds what belongs elsewhere.
    """
    if not isinstance(config, Mapping):
        msg = f"a loss configuration is a dictionary such as {{'type': 'dice'}}, not {config!r}"
        raise LossConfigError(msg)
    for key in config:
        if not isinstance(key, str):
            msg = f"a loss configuration has names for keys, not {key!r}"
            raise LossConfigError(msg)
    if "scheduler" in config:
        msg = (
            "the configuration of a loss has a 'scheduler', which nothing would step; leave it out here, and pass it "
            "to LossManager.create_loss_scheduler(loss, config['scheduler'])"
        )
        raise LossConfigError(msg)
    name = config.get("type")
    if not isinstance(name, str):
        close = nearest("type", config) if "type" not in config else ""
        typo = close.removeprefix(" Did you mean ").removesuffix("?")
        hint = f" Write 'type' in the place of {typo}." if close else ""
        msg = f"the configuration's 'type' is {name!r}.{hint} {known_names('Known', losses().names())}"
        raise LossConfigError(msg)
    return name, {key: value for key, value in config.items() if key != "type"}


def make_supervised(name: str, options: Mapping[str, Any]) -> Loss:
    """Make the loss called *name*, over several resolutions where *options* ask for `deep_supervision`.

    Raises:
        UnknownNameError, LossConfigError: As `make_loss`.
    """
    options = dict(options)
    asked = options.pop("deep_supervision", False)
    loss = make_loss(name, options)
    if asked is False:
        return loss
    from mlc_losses.deep_supervision import DeepSupervisionLoss

    if asked is not True and (isinstance(asked, str) or not isinstance(asked, Sequence)):
        msg = f"deep_supervision is {asked!r}; give True, or a list with the weight of each output, the finest first"
        raise LossConfigError(msg)
    return DeepSupervisionLoss(loss, weights=None if asked is True else asked)


def make_loss(name: str, options: Mapping[str, Any]) -> Loss:
    """Make the loss called *name* with the *options* that its factory takes.

    Raises:
        UnknownNameError: If nobody offers *name*.
        LossConfigError: If it does not take an option, naming what is close, or takes another value.
    """
    known = _known_options(name)
    for key in options:
        if known is not None and key not in known:
            msg = f"loss {name!r} does not take {key!r}.{nearest(key, known)} {known_names('It takes', known)}"
            raise LossConfigError(msg)
    return losses().make(name, **options)


def make_combined(settings: Mapping[str, Any]) -> CombinedLoss:
    """Make the combination that *settings* describe: `<name>_weight`, `<name>_config`, and what holds for all.

    Raises:
        UnknownNameError: If nobody offers a component's name.
        LossConfigError: If a key, a weight or an option cannot be followed.
    """
    names = [key.removesuffix("_weight") for key in settings if key.endswith("_weight")]
    parts = (f"{name}_{what}" for name in names for what in ("weight", "config"))
    known = {*FACTS, *SPREAD, "check_inputs", *parts}
    for key in settings:
        if key not in known:
            raise LossConfigError(_explain_key(key, known, names))
    if "" in names:
        msg = "'_weight' names no component; write its name in front, as in dice_weight"
        raise LossConfigError(msg)
    if not names:
        msg = "a combined loss needs components: 'dice_weight': 0.7, 'bce_weight': 0.3"
        raise LossConfigError(msg)
    made = {name: _make_component(settings, name) for name in names}
    from mlc_losses.combined import CombinedLoss

    said = {key: settings[key] for key in (*FACTS, "check_inputs") if key in settings}
    return CombinedLoss(made, {name: settings[f"{name}_weight"] for name in names}, **said)


def _make_component(settings: Mapping[str, Any], name: str) -> Loss:
    key = f"{name}_config"
    options = settings.get(key, {})
    if not isinstance(options, Mapping):
        msg = f"{key} is {options!r}; give a dictionary of options"
        raise LossConfigError(msg)
    for shared in (*FACTS, "check_inputs", "deep_supervision"):
        if shared in options:
            msg = f"{key} has {shared!r}, which holds for all components; say it beside {name}_weight"
            raise LossConfigError(msg)
    for twice in (one for one in SPREAD if one in options and one in settings):
        msg = f"{key} has {twice!r}, and so has the combination for all components; say it once"
        raise LossConfigError(msg)
    kind = options.get("type", name)
    if kind == "combined" and not any(str(one).endswith("_weight") for one in options):
        msg = (
            f"{name}_weight asks for a combination within this one, and {key} names none of its components; name them "
            f"there, or write the name of a loss: 'dice_weight': 0.7, 'bce_weight': 0.3"
        )
        raise LossConfigError(msg)
    if not isinstance(kind, str) or not kind:
        msg = f"component {name!r} is of type {kind!r}; {known_names('Known', losses().names())}"
        raise LossConfigError(msg)
    own = {key: value for key, value in options.items() if key != "type"}
    common = {key: settings[key] for key in (*FACTS, *SPREAD) if key in settings}
    known = _known_options(kind)
    if known is not None and "ignore_index" not in known:
        common.pop("ignore_index", None)  # it gets a mask with what is ignored left out
    for lacking in (one for one in SPREAD if one in common and known is not None and one not in known):
        if common[lacking] == SPREAD[lacking]:
            del common[lacking]  # which is what it does anyway
            continue
        msg = f"{name!r} does not take {lacking!r}, which the combination has for all; say it in the others' own config"
        raise LossConfigError(msg)
    return make_loss(kind, {**common, **own})


def _known_options(name: str) -> Collection[str] | None:
    """Return the names of the options that the loss called *name* takes, or `None` if it decides that itself."""
    parameters = inspect.signature(losses().factory(name)).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return None
    return [one.name for one in parameters]


def _explain_key(key: str, known: Collection[str], names: Collection[str]) -> str:
    offered = losses().names()
    name = key.removesuffix("_config")
    if name != key and name in offered:
        return f"{key!r} would be unused, since there is no {name}_weight; give one, or leave it out"
    takers = [one for one in names if key in (_known_options(one) or ())] if set(names) <= set(offered) else []
    if takers:
        return f"{key!r} is an option of components; say it in {' or '.join(f'{one}_config' for one in takers)}"
    close = nearest(key, [*known, *(f"{one}_{what}" for one in offered for what in ("weight", "config"))])
    return f"a combined loss does not take {key!r}.{close} {known_names('Here it takes', known)}"
