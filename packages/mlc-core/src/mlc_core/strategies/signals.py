"""Saving when the operating system says that the end is near."""

from __future__ import annotations

import signal
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.errors import ConfigurationError
from mlc_core.strategies.checks import read_names
from mlc_core.strategies.combined import Composable

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from typing_extensions import Self

    from mlc_core.records import Moment

__all__ = ["OnSignal"]


def _read_signals(value: Any) -> tuple[signal.Signals, ...]:
    known = signal.Signals.__members__
    names = read_names(value)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        msg = f"signals={list(names)} must be names of signals as {', '.join(sorted(known))}"
        raise ConfigurationError(msg)
    return tuple(known[name] for name in dict.fromkeys(names))


@attrs.define(kw_only=True, eq=False)
class OnSignal(Composable):
    """Save the next moment after one of *signals* came, once.

    The handler only takes a note, so training goes on to that moment, and then calls the handler that was there before.
    A signal that would have ended the process no longer does: ask `received` and end the training after the save.

    Made in the main thread, since only that may handle signals. Until `close`, or the end of a `with` block.

    Raises:
        ConfigurationError: If it is made in another thread, or one of *signals* cannot be handled.
    """

    signals: tuple[signal.Signals, ...] = attrs.field(default=("SIGTERM", "SIGUSR1"), converter=_read_signals)
    received: str | None = attrs.field(default=None, init=False, repr=False)
    """The name of the signal that came last, or None; it stays when the moment was saved."""
    _waiting: deque[str] = attrs.field(factory=deque, init=False, repr=False)
    _before: dict[int, Any] = attrs.field(factory=dict, init=False, repr=False)
    _closed: bool = attrs.field(default=False, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            msg = "signals can be handled only in the main thread: make OnSignal there and pass it on"
            raise ConfigurationError(msg)
        try:
            for one in self.signals:
                self._install(one)
        except (OSError, ValueError) as error:
            self.close()
            msg = f"{one.name} cannot be handled: {error}"
            raise ConfigurationError(msg) from error

    def _install(self, one: signal.Signals) -> None:
        before = signal.getsignal(one)
        if before is None:
            msg = "its handler was not set by Python and could not be put back"
            raise ValueError(msg)
        signal.signal(one, self._handle)
        self._before[one] = before

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._closed:
            self.received = signal.Signals(number).name
            self._waiting.append(self.received)
        before = self._before[number]
        if callable(before):
            before(number, frame)

    def should_save(self, moment: Moment) -> str | None:
        """Say which signals came."""
        if moment.exception is not None:
            return None
        names = []
        while self._waiting:  # one by one, for another may come at any time
            names.append(self._waiting.popleft())
        return f"{' and '.join(dict.fromkeys(names))} received" if names else None

    def state_dict(self) -> dict[str, Any]:
        """Return the signals that no moment was saved for yet."""
        return {"waiting": list(self._waiting)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the signals in *state* wait, before those that came meanwhile."""
        self._waiting.extendleft(map(str, reversed(state["waiting"])))

    def close(self) -> None:
        """Put the handlers back that were there before, in the main thread. May be called twice.

        A handler that somebody put over ours since stays, and ours goes on to call the one before.
        """
        self._closed = True
        for one, before in self._before.items():
            if signal.getsignal(one) == self._handle:
                signal.signal(one, before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
