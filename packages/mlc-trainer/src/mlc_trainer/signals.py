"""Signals that ask a process to end: they set a flag, and training looks at it where nothing is half done."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import attrs

from mlc_trainer.errors import PreemptedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

__all__ = ["AGAIN", "WENT_ON", "StopRequest", "StoppedError", "name_signal"]

Item = TypeVar("Item")

LISTENED_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, and what batch systems and clouds send some time before they take the machine away."""
ONE_PRESS = 1.0
"""Seconds within which a second SIGINT is the same Ctrl-C: `torchrun` and `uv run` pass on what the terminal sent."""
AGAIN = "there is nothing to resume yet: start it again"
WENT_ON = "before training went on; resume it again"
PATIENCE = b"\nCtrl-C: training ends where nothing is half done, and is saved there; once more ends it at once\n"


class StoppedError(Exception):
    """Something long was left because a signal had come; never leaves this package."""


@attrs.define
class StopRequest:
    """Whether a signal has come."""

    signal: int = 0
    """Its number, or 0."""
    agree: Callable[[int], int] = attrs.field(default=int, repr=False)
    """Returns the highest number that any process has: where several train, all of them stop at the same step."""
    speaks: bool = True
    """Whether to say, on standard error, that a Ctrl-C was heard."""
    _message: str | None = attrs.field(default=None, init=False)
    _interrupted_at: float | None = attrs.field(default=None, init=False)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals as requests until the context ends; a second Ctrl-C is a `KeyboardInterrupt` as ever.

        Only a main thread can; in another one a signal does what it always did.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.signal, self._interrupted_at = 0, None  # what ended an earlier loop is over
        before = {one: signal.signal(one, self._hear) for one in LISTENED_TO}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def ending(self, message: str) -> Iterator[None]:
        """Let a signal end at once what is under way, while it is listened to: nothing is done that would be lost.

        Raises:
            PreemptedError: When a signal comes, or has come; says "SIGTERM came" and *message*.
        """
        self._message = message
        try:
            if self.signal:
                raise self._preempted(message)
            yield
        finally:
            self._message = None

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield *items* until a signal has come.

        Raises:
            StoppedError: Then.
        """
        iterator = iter(items)
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                return
            except RuntimeError as error:  # the signal went to all of the group, and a loader has lost its processes
                if self.signal and self.agree(self.signal):  # the others ask whether to stop at this moment
                    raise StoppedError from error
                raise
            agreed = self.agree(self.signal)
            if agreed:
                self.signal = agreed
                raise StoppedError
            yield item

    def is_asked(self) -> bool:
        """Return whether a signal has come, to any process."""
        self.signal = self.agree(self.signal)
        return bool(self.signal)

    def _hear(self, number: int, _: FrameType | None) -> None:
        now = monotonic()
        if number == signal.SIGINT and self._interrupted_at is not None and now - self._interrupted_at > ONE_PRESS:
            raise KeyboardInterrupt
        again, self.signal = bool(self.signal), number
        if number == signal.SIGINT and self._interrupted_at is None:
            self._interrupted_at = now
        if again:
            return
        if self._message is not None:
            raise self._preempted(self._message)
        if number == signal.SIGINT and self.speaks:
            os.write(2, PATIENCE)  # Python's own streams may be in the middle of a write

    def _preempted(self, message: str) -> PreemptedError:
        return PreemptedError(f"{name_signal(self.signal)} came {message}", signal=self.signal)


def name_signal(number: int) -> str:
    """Return what people call the signal, as SIGTERM."""
    return signal.Signals(number).name
