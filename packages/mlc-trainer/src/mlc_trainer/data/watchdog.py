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
        before = signal.signal(SIGNAL, self._hear) if interrupts else None
        self._stops = interrupts
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
                signal.signal(SIGNAL, before)
            if not sys.is_finalizing():
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

    def _hear(self, _: int, __: FrameType | None) -> None:
        if self._stuck is not None and self.waiting == self._stuck.batch:  # else it came at the last moment
            raise self._stuck


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
