"""The state of a scheduler in plain data, and the refusal of one that is of something else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_number
from mlc_losses.schedules.weights import require_numbers

__all__ = ["FORMAT", "LOAD", "check_recorded", "check_state", "digest", "join"]

FORMAT = 1

LOAD = "load what state_dict returned"

RECORDED = frozenset({"sums", "added", "left_out"})

OWN = frozenset({"format", "type", "t", "time", "w", "w0", "s", "skipped", "recorded", "config", "config_digest"})
"""What the scheduler keeps; the rest is the schedule's."""


def digest(config: Mapping[str, Any]) -> str:
    """Return a short name of *config*: the same for the same options in any order."""
    spelled = json.dumps(_as_floats(config), sort_keys=True, allow_nan=False)
    return hashlib.sha256(spelled.encode()).hexdigest()[:16]


def _as_floats(one: Any) -> Any:
    """Return *one* with every number as a float: 1 in one file and 1.0 in another are the same option."""
    if isinstance(one, Mapping):
        return {key: _as_floats(value) for key, value in one.items()}
    if isinstance(one, list | tuple):
        return [_as_floats(value) for value in one]
    return float(one) if isinstance(one, int) and not isinstance(one, bool) else one


def join(own: Mapping[str, Any], schedules: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a scheduler with that of its schedule.

    Raises:
        LossConfigError: If they have a name in common.
    """
    common = OWN & set(schedules)
    if common:
        msg = f"the schedule {own['type']!r} remembers {sorted(common)}, names that its scheduler has; rename them"
        raise LossConfigError(msg)
    return {**own, **schedules}


def check_recorded(recorded: object, names: Collection[str], *, wanted: bool) -> None:
    """Refuse what a state has as the sums that a loss *recorded* of the components *names*, if they are *wanted*.

    Raises:
        LossConfigError: If it is something else; names the key.
    """
    if recorded is None and not wanted:
        return
    if not wanted or not isinstance(recorded, Mapping) or set(recorded) != RECORDED:
        there = f"a mapping with {sorted(RECORDED)}" if wanted else "None"
        msg = f"the state's recorded is {recorded!r}; load what state_dict returned, which has {there} there"
        raise LossConfigError(msg)
    require_numbers("the state's recorded sums", recorded["sums"], names)
    for key in ("added", "left_out"):
        require_number(f"the state's recorded {key}", recorded[key])


def check_state(state: object, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schedule's part of *state*, if the rest fits a scheduler that would say *expected*.

    Raises:
        LossConfigError: If it does not; names both sides.
    """
    missing = OWN - set(state) if isinstance(state, Mapping) else OWN
    if not isinstance(state, Mapping) or missing:
        keys = sorted(state, key=str) if isinstance(state, Mapping) else repr(state)
        msg = f"a scheduler's state has {sorted(missing)}, but this has {keys}; load what its state_dict returned"
        raise LossConfigError(msg)
    for key in ("w0", "config"):
        if not isinstance(state[key], Mapping):
            msg = f"the state's {key} is {state[key]!r}; load what state_dict returned, which has a mapping there"
            raise LossConfigError(msg)
    for what, mine, theirs in (
        ("format", expected["format"], state["format"]),
        ("type", expected["type"], state["type"]),
        ("components", sorted(expected["w0"]), sorted(state["w0"], key=str)),
    ):
        if mine != theirs:
            msg = f"the state has {what} {theirs!r}, but this scheduler {mine!r}; load it into one like its own"
            raise LossConfigError(msg)
    if state["config_digest"] != expected["config_digest"]:
        old, new = state["config"], expected["config"]
        sides = [f"{key} {old.get(key)!r}, here {new.get(key)!r}" for key in sorted({*old, *new}, key=str)]
        differ = [
            one for one, key in zip(sides, sorted({*old, *new}, key=str), strict=True) if old.get(key) != new.get(key)
        ]
        msg = (
            f"the state is of other options ({state['config_digest']}, here {expected['config_digest']}): it was saved "
            f"with {'; '.join(differ)}; make the scheduler with the saved options, or start it afresh without a state"
        )
        raise LossConfigError(msg)
    return {key: value for key, value in state.items() if key not in OWN}
