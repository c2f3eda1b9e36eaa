"""How long a run has been running: a clock that survives restarts and never goes back."""

from __future__ import annotations

import time

__all__ = ["RunningTime"]


class RunningTime:
    """Seconds since this object was made, on top of what earlier processes had counted."""

    def __init__(self, before: float = 0.0) -> None:
        self._before = before
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return self._before + time.monotonic() - self._began
