"""Signals that ask a process to end: they set a flag, and training looks at it where nothing is half done."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

__all__ = ["StopRequest", "StoppedError", "name_signal"]

Item = TypeVar("Item")

LISTENED_TO = (signal.SIGTERM, signal.SIGUSR1)
"""What batch systems and clouds send some time before they take the machine away."""


class StoppedError(Exception):
    """Something long was left because a signal had come; never leaves this package."""


@attrs.define
class StopRequest:
    """Whether a signal has come."""

    signal: int = 0
    """Its number, or 0."""
    agree: Callable[[int], int] = attrs.field(default=int, repr=False)
    """Returns the highest number that any process has: where several train, all of them stop at the same step."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals as requests until the context ends.

        Only a main thread can; in another one a signal does what it always did.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.signal = 0  # what ended an earlier loop is over
        before = {one: signal.signal(one, self._hear) for one in LISTENED_TO}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

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
        self.signal = number


def name_signal(number: int) -> str:
    """Return what people call the signal, as SIGTERM."""
    return signal.Signals(number).name
