"""When to save: at the beginning of a plateau. A strategy with a memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlc_core import Moment


class Plateau:
    """Remembers the last values of the monitored metric; its memory travels in the checkpoints' manifests."""

    def __init__(self, *, patience: int, tolerance: float) -> None:
        self._patience = patience
        self._tolerance = tolerance
        self._recent: list[float] = []
        self._saved = False

    def should_save(self, moment: Moment) -> str | None:
        """Say that a plateau begins, once for each."""
        value = moment.monitor.value(moment.metrics) if moment.monitor is not None else None
        if value is None:
            return None
        self._recent = [*self._recent, value][-self._patience :]
        flat = len(self._recent) == self._patience and max(self._recent) - min(self._recent) < self._tolerance
        begins, self._saved = flat and not self._saved, flat
        return f"a plateau of {self._patience} epochs" if begins else None

    def state_dict(self) -> dict[str, Any]:
        """Return the memory."""
        return {"recent": self._recent, "saved": self._saved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from it."""
        self._recent, self._saved = list(state["recent"]), bool(state["saved"])
