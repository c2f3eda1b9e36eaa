"""Callbacks and trackers by name, our own and every plugin's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import Catalog
from mlc_trainer.observers.isolation import Follower, isolate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlc_trainer.config import PartConfig
    from mlc_trainer.observers import Observer

__all__ = ["callbacks", "make_observers", "trackers"]


def callbacks() -> Catalog[Observer]:
    """Return all observers that are told in the loop."""
    return Catalog("callback", hook="mlc_callbacks", home="mlc_trainer")


def trackers() -> Catalog[Observer]:
    """Return all observers that are told in a thread of their own."""
    return Catalog("tracker", hook="mlc_trackers", home="mlc_trainer")


def make_observers(called: Iterable[PartConfig], following: Iterable[PartConfig]) -> list[Observer]:
    """Make the callbacks *called* and the trackers *following*, none of which can harm a run.

    Raises:
        UnknownNameError: If nobody offers one of them; says what is close.
        OptionsError: If it does not take its options.
    """
    found: list[Observer] = [isolate(one.name, callbacks().make(one.name, **one.options)) for one in called]
    found += [Follower(one.name, trackers().make(one.name, **one.options)) for one in following]
    return found
