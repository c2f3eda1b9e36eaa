"""Several strategies as one, also by `|` and `&`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import attrs

from mlc_core.strategies.memory import recall, remember

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlc_core.protocols import SaveStrategy
    from mlc_core.records import Moment

__all__ = ["AllOf", "AnyOf", "Composable"]


class Composable:
    """Gives a strategy the operators `|`, save when either would, and `&`, save when both would."""

    def __or__(self, other: SaveStrategy) -> AnyOf:
        return AnyOf((cast("SaveStrategy", self), other))

    def __and__(self, other: SaveStrategy) -> AllOf:
        return AllOf((cast("SaveStrategy", self), other))


@attrs.frozen
class _Combined(Composable):
    strategies: tuple[SaveStrategy, ...]

    def state_dict(self) -> dict[str, Any]:
        """Return what each one remembers, in their order."""
        return {"parts": [remember(one) for one in self.strategies]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give each one its state back; one that was not here before begins anew."""
        for one, stored in zip(self.strategies, state["parts"], strict=False):
            recall(one, stored)

    def close(self) -> None:
        """Close those that can be closed, as `OnSignal`."""
        for one in self.strategies:
            close = getattr(one, "close", None)
            if callable(close):
                close()


@attrs.frozen
class AnyOf(_Combined):
    """Save when any of *strategies* would; each is asked each time, so that those with a memory miss nothing."""

    def should_save(self, moment: Moment) -> str | None:
        """Give all their reasons."""
        return _join(strategy.should_save(moment) for strategy in self.strategies)


@attrs.frozen
class AllOf(_Combined):
    """Save when all of *strategies* would, as every 30 minutes but only at the end of an epoch.

    Each is asked each time. One that would have saved when the others would not gets back the memory that it had
    before: a save that was not made must not count as one.
    """

    def should_save(self, moment: Moment) -> str | None:
        """Give all their reasons."""
        before = [strategy.state_dict() for strategy in self.strategies]
        reasons = [strategy.should_save(moment) for strategy in self.strategies]
        if all(reasons):
            return _join(reasons)
        for strategy, state, reason in zip(self.strategies, before, reasons, strict=True):
            if reason:
                strategy.load_state_dict(state)
        return None


def _join(reasons: Iterable[str | None]) -> str | None:
    given = "; ".join(reason for reason in reasons if reason)
    return "; ".join(dict.fromkeys(given.split("; "))) or None  # each once, also from inner ones
