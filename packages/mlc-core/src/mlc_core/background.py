"""Saves that do not wait for the disk: staged now, durable later, in order, and never more at once than there is room.

A save has two moments. Once it is *staged*, the state has been copied and training may go on; once it is *durable*, it
is committed and retention has run. An error surfaces when the next moment is asked for, not at the end of the run.
"""

from __future__ import annotations

import os
import queue
import threading
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, get_args

import attrs

from mlc_core.errors import CheckpointWarning, ConfigurationError
from mlc_core.image import Image
from mlc_core.memory import Slab
from mlc_core.process import WriterProcess
from mlc_core.state.frameworks import pin
from mlc_core.writer import write_here

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlc_core.image import Part
    from mlc_core.protocols import Storage
    from mlc_core.records import Saved
    from mlc_core.saver import Facts, Saver
    from mlc_core.writer import Plan, Write

__all__ = ["Background", "Saving", "Where", "choose_background"]

Where = Literal["thread", "process"]


@attrs.frozen
class Saving:
    """A save under way. Both moments are futures: `result()` waits, `asyncio.wrap_future()` makes them awaitable."""

    staged: Future[None]
    """Done once the state was copied: the model may change."""
    durable: Future[Path | str]
    """Done once it is committed; where it lies."""


@attrs.frozen
class _UnderWay:
    saving: Saving
    expected: Saved
    ended: threading.Event = attrs.field(factory=threading.Event)
    """Set when nothing of the save is left to do, and a little later than its futures."""


class Background:
    """Runs the saves of one manager, one after the other, in a thread.

    Args:
        saver: Does them.
        most: How many staged states may be in memory.
        write: Writes one file; by default this thread does.
        make: Makes the memory for a staged state.
        end: Called when it is closed.
    """

    def __init__(
        self,
        saver: Saver,
        *,
        most: int,
        write: Write = write_here,
        make: Callable[[int], Slab] = Slab,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        self._saver = saver
        self._write = write
        self._end = end
        self._most = most
        self._images: queue.SimpleQueue[Image] = queue.SimpleQueue()
        for _ in range(most):
            self._images.put(Image(lambda size: pin(make(size))))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlc-checkpoints")
        self._copier = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlc-staging")
        self._turn = threading.Lock()
        self._closing = threading.Lock()
        self._closed = False
        self._under_way: list[_UnderWay] = []
        self._failures: list[BaseException] = []
        self._process = os.getpid()
        self._worker: int | None = None

    def submit(
        self, plan: Plan, facts: Facts, *, later: Callable[[Part], bool], location: Callable[[str], Path | str]
    ) -> Saving:
        """Stage *plan*, all but what can be copied *later*, and save it in the background.

        Waits while all memory for staged states is in use.

        Raises:
            ConfigurationError: If it was closed.
        """
        image = self._borrow()
        saving = Saving(_promise(), _promise())
        copying = False
        try:
            staged, left = image.stage(plan, later=later)
            if left:
                self._copier.submit(self._copy, saving, image, left)
                copying = True
            else:
                saving.staged.set_result(None)
            with self._turn:
                self._under_way.append(_UnderWay(saving, self._saver.expect(facts)))
            self._thread.submit(self._run, saving, image, staged, facts, location)
        except BaseException:
            if copying:
                saving.staged.exception()  # until then somebody writes to the image
            self._forget(saving)
            self._images.put(image)
            self._check_open()  # if it was closed meanwhile, that is what is wrong
            raise
        return saving

    def _borrow(self) -> Image:
        """Wait for memory that nobody uses."""
        if threading.get_ident() == self._worker:
            msg = "a save in the background cannot be begun from within one, as by a listener; use save_checkpoint"
            raise ConfigurationError(msg)
        self._check_open()
        image = self._images.get()
        try:
            self._check_open()  # it may have been closed while we waited
        except ConfigurationError:
            self._images.put(image)
            raise
        return image

    def _check_open(self) -> None:
        if not self._is_open():
            msg = "the manager was closed, or belongs to the process that this one was forked from; make another one"
            raise ConfigurationError(msg)

    def _is_open(self) -> bool:
        return not self._closed and os.getpid() == self._process

    def _copy(self, saving: Saving, image: Image, left: list[tuple[int, Part]]) -> None:
        try:
            image.copy(left)
        except BaseException as error:
            saving.staged.set_exception(error)
        else:
            saving.staged.set_result(None)

    def _run(
        self, saving: Saving, image: Image, plan: Plan, facts: Facts, location: Callable[[str], Path | str]
    ) -> None:
        self._worker = threading.get_ident()
        try:
            saving.staged.result()
            saved = self._saver.save(plan, facts, write=self._write)
            saving.durable.set_result(location(saved.name))
        except BaseException as error:
            with self._turn:
                self._failures.append(error)
            saving.durable.set_exception(error)
            msg = f"a checkpoint could not be saved in the background, and the next step will say so: {error}"
            warnings.warn(msg, CheckpointWarning, stacklevel=2)
        finally:
            self._images.put(image)
            self._forget(saving)

    def _forget(self, saving: Saving) -> None:
        with self._turn:
            gone = [one for one in self._under_way if one.saving is saving]
            self._under_way = [one for one in self._under_way if one.saving is not saving]
        for one in gone:
            one.ended.set()

    @property
    def under_way(self) -> tuple[Saved, ...]:
        """What is not durable yet, oldest first, as it is expected to be."""
        with self._turn:
            return tuple(one.expected for one in self._under_way)

    def check(self) -> None:
        """Raise what the first save that failed since the last time has raised; of each there was a warning.

        Raises:
            MlcError: As `save_checkpoint` does.
        """
        with self._turn:
            failures, self._failures = self._failures, []
        if failures:
            raise failures[0]

    def settle(self) -> None:
        """Wait until nothing is under way; what went wrong is told later.

        A listener that asks in the middle of a save does not wait for that save.
        """
        if threading.get_ident() == self._worker or os.getpid() != self._process:
            return
        with self._turn:
            waiting = list(self._under_way)
        for one in waiting:
            one.ended.wait()

    def wait(self) -> None:
        """Wait until everything is durable.

        Raises:
            MlcError: As `check`.
        """
        self.settle()
        self.check()

    def close(self) -> None:
        """Wait, and end the thread.

        Raises:
            MlcError: As `check`.
        """
        if os.getpid() != self._process:
            return  # a forked child has nothing of it
        self._closed = True
        self._copier.shutdown(wait=True)
        self._thread.shutdown(wait=True)
        self._end()
        with self._closing:
            self._empty_images()
        self.check()

    def _empty_images(self) -> None:
        """Give all memory back; whoever waits for some finds it closed, and returns what it got."""
        images: list[Image] = []
        try:
            while len(images) < self._most:
                images.append(self._images.get())
        finally:
            for image in images:
                image.forget()
                self._images.put(image)


def _promise() -> Future[Any]:
    """Return a future that nobody can cancel: a save that has begun is finished."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def choose_background(saver: Saver, storage: Storage, where: Where, most: int) -> Background:
    """Return what saves in the background.

    Raises:
        ConfigurationError: If *where* is neither `thread` nor `process`, if *most* is no count, or if the *storage*
            cannot be written to by a second process.
    """
    if most < 1:
        msg = f"in_flight={most} must be 1 or more"
        raise ConfigurationError(msg)
    if where not in get_args(Where):
        msg = f"background={where!r} must be 'thread' or 'process'"
        raise ConfigurationError(msg)
    if where == "thread":
        return Background(saver, most=most)
    process = WriterProcess(storage)
    return Background(saver, most=most, write=process.write, make=process.make, end=process.close)
