"""Large files at the speed of the disk: past the page cache, from kept buffers, by two workers, hashed on the way."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import xxhash

from mlc_core.errors import StorageError
from mlc_core.memory import ALIGNMENT, Slab, view_at

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHUNK", "Chunks", "open_new", "write_chunks"]

CHUNK = 4 << 20  # bytes a worker writes at once: two of them keep one disk busy, and 8 MiB are all the memory it takes
WORKERS = 2
DIRECT = getattr(os, "O_DIRECT", 0)
REFUSALS = {errno.EINVAL, errno.EOPNOTSUPP}  # what file systems answer that do not have direct I/O

_kept: SimpleQueue[Slab] = SimpleQueue()
_keeping = threading.Lock()


class Chunks:
    """The content of a file, taken chunk by chunk in order by workers that take turns, and hashed as it is taken.

    Args:
        spans: Address and size of each part of the content.
        size: How many bytes they must have together.
        where: The file, for errors.
        in_place: Whether a span can still be read after the next one was asked for.
    """

    def __init__(self, spans: Iterator[tuple[int, int]], size: int, where: object, *, in_place: bool) -> None:
        self._spans = spans
        self._in_place = in_place
        self._size = size
        self._where = where
        self._turn = threading.Lock()
        self._hash = xxhash.xxh3_128()
        self._offset = 0
        self._address, self._left = 0, 0
        self._trouble: BaseException | None = None

    def take(self, slab: Slab) -> tuple[int, memoryview] | None:
        """Return the offset and the bytes of the next chunk, in place or copied to *slab*; None at the end.

        The last chunk is filled up with zeros to a whole page.

        Raises:
            StorageError: If the spans have more or fewer bytes than were announced.
        """
        with self._turn:
            begin = self._offset
            length = min(slab.size, self._size - begin)
            try:
                chunk = self._take(slab, length)
            except BaseException as error:
                self._trouble = self._trouble or error
                raise
        if chunk is None:
            return None
        padding = -length % ALIGNMENT
        if padding:
            slab.view[length : length + padding] = bytes(padding)
            chunk = slab.view[: length + padding]
        return begin, chunk

    def _take(self, slab: Slab, length: int) -> memoryview | None:
        if self._trouble is not None:
            raise self._trouble  # what the other worker met, and not what comes of it
        if not length:
            self._check_end()
            return None
        if not self._left:
            self._next_span()
        if self._in_place and self._left >= length and not self._address % ALIGNMENT and not length % ALIGNMENT:
            chunk = view_at(self._address, length)
            self._address, self._left = self._address + length, self._left - length
        else:
            self._fill(slab, length)
            chunk = slab.view[:length]
        self._hash.update(chunk)
        self._offset += length
        return chunk

    def _fill(self, slab: Slab, length: int) -> None:
        filled = 0
        while filled < length:
            if not self._left:
                self._next_span()
            part = min(self._left, length - filled)
            ctypes.memmove(slab.address + filled, self._address, part)  # lets other threads run meanwhile
            filled += part
            self._address, self._left = self._address + part, self._left - part

    def _next_span(self) -> None:
        while not self._left:
            try:
                self._address, self._left = next(self._spans)
            except StopIteration:
                raise self._wrong_size(more=False) from None

    def _check_end(self) -> None:
        if self._left or any(size for _, size in self._spans):
            raise self._wrong_size(more=True)

    def _wrong_size(self, *, more: bool) -> StorageError:
        return StorageError(
            f"{self._where} was announced with {self._size:,} bytes and given {'more' if more else 'less'}"
        )

    @property
    def digest(self) -> str:
        """XXH3 128-bit of what was taken, 32 hexadecimal digits."""
        return self._hash.hexdigest()


def open_new(path: os.PathLike[str]) -> int:
    """Open the new file *path* for writing, for direct I/O where its file system has that."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags | DIRECT, 0o644)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
    # Some file systems make the file before they refuse to open it so.
    return os.open(path, flags & ~os.O_EXCL, 0o644)


def write_chunks(descriptor: int, chunks: Chunks, size: int) -> None:
    """Write all of *chunks* to the new file *descriptor* of *size* bytes; not yet synced.

    Raises:
        OSError, StorageError: What the first worker that failed met.
    """
    troubles: list[BaseException] = []

    def work() -> None:
        try:
            with _borrowed() as slab:
                while not troubles and (found := chunks.take(slab)) is not None:
                    _write_at(descriptor, *found)
        except BaseException as error:  # whatever it is, it belongs to the caller
            troubles.append(error)

    helpers = [threading.Thread(target=work, daemon=True) for _ in range(min(WORKERS, -(-size // CHUNK)) - 1)]
    try:
        for helper in helpers:
            with suppress(RuntimeError):  # no new threads while the interpreter ends: one worker is enough
                helper.start()
        work()
    except BaseException as error:
        troubles.append(error)
    for helper in helpers:
        _join(helper, troubles)
    if troubles:
        raise troubles[0]
    os.ftruncate(descriptor, size)  # the last page was written whole


def _join(helper: threading.Thread, troubles: list[BaseException]) -> None:
    """Wait until *helper* has ended: until then it uses the descriptor and the memory, whoever interrupts us."""
    while helper.is_alive():
        try:
            helper.join()
        except BaseException as error:
            troubles.append(error)


def _write_at(descriptor: int, offset: int, data: memoryview) -> None:
    refused = False
    while data:
        try:
            written = os.pwrite(descriptor, data, offset)
        except OSError as error:
            if error.errno not in REFUSALS or refused:
                raise
            refused = True
            _leave_direct(descriptor)
            continue
        if written % ALIGNMENT:
            _leave_direct(descriptor)  # what is left is not aligned any more
        data, offset = data[written:], offset + written


def _leave_direct(descriptor: int) -> None:
    """Go on through the page cache."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~DIRECT)


@contextmanager
def _borrowed() -> Iterator[Slab]:
    """Lend a buffer; it is kept for the next one."""
    try:
        slab = _kept.get_nowait()
    except Empty:
        slab = Slab(CHUNK)
    try:
        yield slab
    finally:
        with _keeping:
            if _kept.qsize() < WORKERS:
                _kept.put(slab)
