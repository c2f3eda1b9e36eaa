"""Settings that the state of a checkpoint decides: those of optimizer, learning-rate schedule and loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from mlc_core import MismatchError
from mlc_losses import get_preset_loss_config
from mlc_trainer.config_files import as_data, from_data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_trainer.config import ExperimentConfig

__all__ = ["keep_settings"]

KEPT = ("loss", "optimizer", "scheduler")
"""Tables of which nothing but the checkpoint's holds."""


def keep_settings(config: ExperimentConfig, state: Mapping[str, Any], *, where: object) -> ExperimentConfig:
    """Return *config* with the tables `loss`, `optimizer` and `scheduler` that the run had whose *state* is loaded.

    Where they differ, the state that is loaded has a value by the name of the setting, which replaces what was built:
    in every group of the optimizer, in the schedule, or among the weights of the loss.

    Args:
        config: What everything was built from.
        state: What the checkpoint holds, by item.
        where: The checkpoint, for the message.

    Raises:
        MismatchError: If one differs that no state puts back; names it and the way out.
    """
    stored = from_data(
        {**as_data(config), **{name: state["experiment"][name] for name in KEPT if name in state["experiment"]}},
        where=str(where),
    )
    before, now = _flat(stored), _flat(config)
    replaced = _replaced(state)
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key) and key not in replaced:
            msg = (
                f"{where} was saved with {key} = {before.get(key)!r} and the configuration says {now.get(key)!r}, "
                "which a resume cannot change: leave it as it was, or begin a new run"
            )
            raise MismatchError(msg)
    return attrs.evolve(config, loss=stored.loss, optimizer=stored.optimizer, scheduler=stored.scheduler)


def _flat(config: ExperimentConfig) -> dict[str, Any]:
    """Return the settings of the three tables by key; a preset is what it says."""
    loss, optimizer, scheduler = config.loss, config.optimizer, config.scheduler
    preset = {} if loss.preset is None else get_preset_loss_config(loss.preset)
    found = {f"loss.config.{name}": value for name, value in {**preset, **loss.config}.items()}
    found["optimizer.name"] = optimizer.name
    found.update({f"optimizer.options.{name}": _plain(value) for name, value in optimizer.options.items()})
    if scheduler is None:
        return found
    found.update({f"scheduler.options.{name}": _plain(value) for name, value in scheduler.options.items()})
    rest = attrs.asdict(scheduler, filter=lambda field, _: field.name != "options")
    return {**found, **{f"scheduler.{name}": value for name, value in rest.items()}}


def _plain(value: Any) -> Any:
    """Return *value* as it is in a file, where a tuple is a list."""
    return list(value) if isinstance(value, tuple) else value


def _replaced(state: Mapping[str, Any]) -> set[str]:
    """Return the settings that *state* has a value for."""
    groups = state["optimizer"]["param_groups"]
    schedule = state.get("scheduler") or {}
    inner = (schedule.get("_schedulers") or [schedule])[-1]  # behind a warm-up
    return {
        *(f"optimizer.options.{name}" for name in set.intersection(*map(set, groups)) - {"params"}),
        *(f"scheduler.options.{name}" for name in inner),
        *(f"loss.config.{name}" for name in state["loss"]),
    }
