"""Observers that plugins offer: what they break is theirs, and the run goes on."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlc_trainer.observers.journal import NO_METRICS
from mlc_trainer.observers.protocol import Monitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlc_trainer.engine import Engine, Position
    from mlc_trainer.observers.protocol import Observer, RunRecord

__all__ = ["Follower", "Isolated", "IsolatedMonitor", "isolate"]

log = logging.getLogger("mlc_trainer")

ROOM = 10_000
"""What may wait to be told; more is dropped, and counted."""
PATIENCE = 30.0
"""Seconds that a run waits at its end for those who are still being told."""


class Isolated:
    """Tells *observer* everything in the loop's own thread, until it fails; then it is told nothing more.

    Args:
        name: What the observer is called in warnings.
        observer: Whom to tell.
    """

    def __init__(self, name: str, observer: Observer) -> None:
        self._name = name
        self._observer: Observer | None = observer

    def run_started(self, run: RunRecord, position: Position) -> None:
        """Tell."""
        self._tell("run_started", run, position)

    def step_ended(self, position: Position) -> None:
        """Tell."""
        self._tell("step_ended", position)

    def step_logged(self, position: Position, values: Mapping[str, float]) -> None:
        """Tell."""
        self._tell("step_logged", position, values)

    def epoch_ended(self, position: Position, metrics: Mapping[str, float]) -> None:
        """Tell."""
        self._tell("epoch_ended", position, metrics)

    def rolled_back(self, position: Position) -> None:
        """Tell."""
        self._tell("rolled_back", position)

    def checkpoint_saved(self, position: Position, location: str) -> None:
        """Tell."""
        self._tell("checkpoint_saved", position, location)

    def run_ended(self, position: Position, error: BaseException | None) -> None:
        """Tell."""
        self._tell("run_ended", position, error)

    def _tell(self, moment: str, *facts: Any) -> Any:
        if self._observer is None:
            return None
        try:
            return self._call(self._observer, moment, *facts)
        except (Exception, SystemExit) as failure:
            kind = type(self._observer).__qualname__
            log.warning(
                "callback %r (%s) failed at %s and is told nothing more: %s", self._name, kind, moment, failure,
                exc_info=failure,
            )  # fmt: skip
            self._observer = None
            return None

    def _call(self, observer: Observer, moment: str, *facts: Any) -> Any:
        return getattr(observer, moment)(*facts)


class IsolatedMonitor(Isolated):
    """The same for one that has numbers: once it failed, or what it returned are none, it has none."""

    def __init__(self, name: str, observer: Observer) -> None:
        super().__init__(name, observer)
        self._refused: set[str] = set()

    def batch_awaited(self, position: Position) -> None:
        """Tell."""
        self._tell("batch_awaited", position)

    def step_began(self, position: Position, samples: int) -> None:
        """Tell."""
        self._tell("step_began", position, samples)

    def numbers(self, engine: Engine, values: Mapping[str, float]) -> Mapping[str, float]:
        """Ask."""
        found: Mapping[str, float] | None = self._tell("numbers", engine, values)
        return {} if found is None else found

    def _call(self, observer: Observer, moment: str, *facts: Any) -> Any:
        """Hold numbers against what they must be where a failure is the monitor's own."""
        found = super()._call(observer, moment, *facts)
        return self._check(found) if moment == "numbers" else found

    def _check(self, found: Any) -> Mapping[str, float]:
        if not isinstance(found, Mapping):
            msg = f"numbers() returned {type(found).__qualname__} where a mapping from names to numbers belongs"
            raise TypeError(msg)
        for name in (taken := NO_METRICS & found.keys()) - self._refused:
            log.warning("callback %r has a number named %r, as the journal names its own; it is left out",
                self._name, name)  # fmt: skip
        self._refused |= taken
        return {str(name): float(value) for name, value in found.items() if name not in taken}


def isolate(name: str, observer: Observer) -> Isolated:
    """Return what tells *observer* everything that it wants to hear."""
    return IsolatedMonitor(name, observer) if isinstance(observer, Monitor) else Isolated(name, observer)


class Follower:
    """Tells *observer* everything but single steps in a thread of its own, in order; however slow it is, nobody waits.

    At the end the run waits for it, but not for ever.

    Args:
        name: What the observer is called in warnings.
        observer: Whom to tell.
        room: How much may wait to be told.
        patience: Seconds to wait at the end.
    """

    def __init__(self, name: str, observer: Observer, *, room: int = ROOM, patience: float = PATIENCE) -> None:
        self._name = name
        self._isolated = Isolated(name, observer)
        self._queue: queue.Queue[tuple[Callable[..., None], tuple[Any, ...]] | None] = queue.Queue(room)
        self._patience = patience
        self._dropped = 0
        self._thread: threading.Thread | None = None

    def run_started(self, run: RunRecord, position: Position) -> None:
        """Begin to tell."""
        self._thread = threading.Thread(target=self._work, name=f"tracker {self._name}", daemon=True)
        self._thread.start()
        self._put(self._isolated.run_started, run, position)

    def step_ended(self, position: Position) -> None:
        """Tell nothing: a step that is worth it is logged."""

    def step_logged(self, position: Position, values: Mapping[str, float]) -> None:
        """Tell later."""
        self._put(self._isolated.step_logged, position, values)

    def epoch_ended(self, position: Position, metrics: Mapping[str, float]) -> None:
        """Tell later."""
        self._put(self._isolated.epoch_ended, position, metrics)

    def rolled_back(self, position: Position) -> None:
        """Tell later."""
        self._put(self._isolated.rolled_back, position)

    def checkpoint_saved(self, position: Position, location: str) -> None:
        """Tell later."""
        self._put(self._isolated.checkpoint_saved, position, location)

    def run_ended(self, position: Position, error: BaseException | None) -> None:
        """Tell, and wait until all is told."""
        self._put(self._isolated.run_ended, position, error)
        thread = self._thread
        if thread is None:
            return
        try:
            self._queue.put(None, timeout=self._patience)
            thread.join(self._patience)
        except queue.Full:
            pass
        if thread.is_alive():
            log.warning(
                "tracker %r has not heard everything after %g s; the run does not wait for it any longer: %d things "
                "wait to be told", self._name, self._patience, self._queue.qsize(),
            )  # fmt: skip
        if self._dropped:
            log.warning("tracker %r was too slow: %d things were not told", self._name, self._dropped)

    def _put(self, tell: Callable[..., None], *facts: Any) -> None:
        try:
            self._queue.put_nowait((tell, facts))
        except queue.Full:
            self._dropped += 1

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            tell, facts = task
            tell(*facts)
