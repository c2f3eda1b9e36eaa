"""Batches that do not come: which loader is waited for, since when, and where it hangs."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

import attrs

from mlc_trainer.errors import LoaderStuckError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

__all__ = ["Watchdog"]

log = logging.getLogger("mlc_trainer")

SIGNAL = signal.SIGURG
"""What interrupts a call that waits: nobody else sends it, and without a handler it does nothing."""
LOOKS = 5
"""How often to look within the time that a batch may take."""
LONGEST = 5.0
"""Seconds between two looks at most."""
FRAMES = 30


@attrs.frozen(kw_only=True)
class Watchdog:
    """Notices when a batch takes more than *timeout* seconds, and tells where everything stands."""

    timeout: float | None
    """None or 0 watches nothing."""
    on_stuck: Literal["report", "stop"] = "report"
    """Whether to wait on then, or to raise."""

    def watch(self, batches: Iterator[Any], *, loader: str, epoch: int, first: int = 0) -> Iterator[Any]:
        """Yield *batches* of *loader*, the first of which is batch *first* of *epoch*, both counted from 0.

        Raises:
            LoaderStuckError: If one does not come in time, and that is to end the run. Only a call in the main thread
                can be interrupted, and only one that lets Python run or waits for the operating system.
        """
        return _follow(batches, _Watch(self, loader, epoch, batches), first) if self.timeout else batches


def _follow(batches: Iterator[Any], watch: _Watch, number: int) -> Iterator[Any]:
    with watch.watching():
        watch.waiting = number
        for batch in batches:
            watch.waiting = None
            yield batch
            number += 1
            watch.waiting = number


class _Watch:
    """One pass over one loader, and the thread that looks at it."""

    def __init__(self, dog: Watchdog, loader: str, epoch: int, batches: Iterator[Any]) -> None:
        self.waiting: int | None = None  # for which batch; all that a step costs is to say so
        self._timeout, self._stops = dog.timeout or 0.0, dog.on_stuck == "stop"
        self._loader, self._epoch = loader, epoch
        self._batches = batches
        self._stuck: LoaderStuckError | None = None
        self._over = threading.Event()
        self._waiter = threading.get_ident()

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._waiter = threading.get_ident()
        interrupts = self._stops and threading.current_thread() is threading.main_thread()
        self._stops = interrupts
        if interrupts:
            EAR.add(self)
        thread = threading.Thread(target=self._look, name=f"watchdog of the {self._loader} loader", daemon=True)
        thread.start()
        try:
            yield
        except LoaderStuckError:
            _end(self._workers)
            raise
        finally:
            self._over.set()
            if interrupts:
                EAR.remove(self)
            if not sys.is_finalizing() and thread is not threading.current_thread():
                thread.join(1.0)

    # ------------------------------------------------------------------ in a thread of its own

    def _look(self) -> None:
        pause = min(self._timeout / LOOKS, LONGEST)
        seen, waited, told = self.waiting, 0.0, 0.0
        before = time.monotonic()
        while not self._over.wait(pause):
            now = time.monotonic()
            passed, before = min(now - before, 2 * pause), now  # while the process was stopped, nobody waited
            if self.waiting is None or self.waiting != seen:
                self._tell_end(seen, told)
                seen, waited, told = self.waiting, 0.0, 0.0
                continue
            waited += passed
            if waited >= self._timeout:
                told, waited = told + waited, 0.0
                self._report(seen, told)
        if self.waiting != seen:
            self._tell_end(seen, told)

    def _tell_end(self, number: int | None, told: float) -> None:
        if told:
            log.warning("%s came, after more than %.3g s", self._name(number), told)

    def _report(self, number: int | None, waited: float) -> None:
        what = f"{self._name(number)} has not come for {waited:.3g} s"
        log.error("%s. %s\n%s", what, _describe(self._workers), self._stack())
        if self._stops and number is not None:
            msg = f"{what}; data.on_stuck = 'report' would wait on, data.timeout says how long"
            self._stuck = LoaderStuckError(msg, loader=self._loader, epoch=self._epoch, batch=number)
            with suppress(ProcessLookupError):
                signal.pthread_kill(self._waiter, SIGNAL)

    def _name(self, number: int | None) -> str:
        return f"batch {number} of epoch {self._epoch + 1} of the {self._loader} loader"

    @property
    def _workers(self) -> Sequence[Any]:
        """The processes of torch's loader; another one does not tell."""
        return list(getattr(self._batches, "_workers", ()))

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._waiter)  # noqa: SLF001 - documented, and the only way to it
        lines = traceback.format_stack(frame)[-FRAMES:] if frame is not None else []
        return f"The thread that waits is at:\n{''.join(lines)}"

    # ------------------------------------------------------------------ in the thread that waits

    @property
    def stuck(self) -> LoaderStuckError | None:
        """What to raise now in the thread that waits."""
        stuck = self._stuck
        return stuck if stuck is not None and self.waiting == stuck.batch else None  # else it came at the last moment


class _Ear:
    """Hears the signal for all watches that may interrupt, however many there are and in whatever order they end.

    Handlers are set in the main thread only. Where the last watch ends in another, the handler stays, is nobody's, and
    passes on what it hears until the main thread can take it off.
    """

    def __init__(self) -> None:
        self._watches: list[_Watch] = []
        self._before: Any = signal.SIG_DFL

    def add(self, watch: _Watch) -> None:
        self._watches.append(watch)
        if signal.getsignal(SIGNAL) != self._hear:
            self._before = signal.signal(SIGNAL, self._hear)

    def remove(self, watch: _Watch) -> None:
        self._watches.remove(watch)
        self._take_off()

    def _take_off(self) -> None:
        if self._watches or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(SIGNAL) == self._hear:  # else somebody has set another since
            signal.signal(SIGNAL, signal.SIG_DFL if self._before is None else self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        stuck = next((one.stuck for one in self._watches if one.stuck is not None), None)
        if stuck is not None:
            raise stuck
        self._take_off()
        if callable(self._before):
            self._before(number, frame)


EAR = _Ear()


def _describe(workers: Sequence[Any]) -> str:
    if not workers:
        return "It is loaded in this process, or by processes that the loader does not tell of."
    told = ", ".join(f"{one.pid} ({_state(one.pid)})" for one in workers)
    return f"Its workers, by process id: {told}; `py-spy dump --pid ID` tells what one is doing."


def _state(process: int) -> str:
    try:
        ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # whoever waits for it still can
    except ChildProcessError:
        return "dead"
    if ended is None:
        return "alive"
    return f"dead, exit status {ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status}"


def _end(workers: Sequence[Any]) -> None:
    """End processes that hang and do not listen to signals, or nobody could wait for them at the end."""
    for one in workers:
        with suppress(RuntimeError):  # torch says that a worker was killed
            one.kill()
            one.join()
