"""Memory by its address: what the quick way between tensors and disks is made of."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Buffer = bytes | bytearray | memoryview

__all__ = ["ALIGNMENT", "Deferred", "Slab", "Spans", "address_of", "digest_of", "view_at"]

ALIGNMENT = 4096  # what direct I/O wants addresses, offsets and lengths to be multiples of, on every disk we know
READ_ONLY = 0x100  # PyBUF_READ
POPULATE_READ = 22  # MADV_POPULATE_READ, Linux 5.14: https://man7.org/linux/man-pages/man2/madvise.2.html
PIECE = 32 << 20  # bytes hashed at once
SAMPLES, SAMPLE = 256, 8  # places, and bytes at each, that a sketch looks at: enough to see that a model was trained


class _PyBuffer(ctypes.Structure):
    """`Py_buffer`, as https://docs.python.org/3/c-api/buffer.html has it."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_PyBuffer),)
_release_buffer.restype = None
_view_memory = ctypes.pythonapi.PyMemoryView_FromMemory
_view_memory.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)
_view_memory.restype = ctypes.py_object


def address_of(buffer: Buffer) -> int:
    """Return where *buffer* begins; it must be kept alive by whoever uses the address."""
    described = _PyBuffer()
    _get_buffer(buffer, ctypes.byref(described), 0)
    try:
        return described.buf or 0
    finally:
        _release_buffer(ctypes.byref(described))


def digest_of(view: memoryview) -> str:
    """Return the XXH3 128-bit digest of *view*, 32 hexadecimal digits.

    A mapped file is paged in piece by piece, so that a sector that cannot be read is an error and not a signal.

    Raises:
        OSError: If a mapped file cannot be read.
    """
    digest = xxhash.xxh3_128()
    mapped = view.obj if isinstance(view.obj, mmap.mmap) and len(view) == len(view.obj) else None
    for begin in range(0, len(view), PIECE):
        piece = view[begin : begin + PIECE]
        if mapped is not None and not _page_in(mapped, begin, len(piece)):
            mapped = None
        digest.update(piece)
    return digest.hexdigest()


def _page_in(mapped: mmap.mmap, begin: int, length: int) -> bool:
    """Read pages of a mapped file; say whether the system can do that ahead of the first touch."""
    try:
        mapped.madvise(POPULATE_READ, begin, length)
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENOSYS}:
            return False
        raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
    return True


def view_at(address: int, size: int) -> memoryview:
    """Return the *size* bytes at *address*, read-only; they must be kept alive by whoever uses the view."""
    view: memoryview = _view_memory(address, size, READ_ONLY)
    return view


class Deferred(Protocol):
    """Content that stays where it is, in a tensor or on a device, until somebody needs it."""

    size: int
    """Bytes."""

    def address(self) -> int | None:
        """Return where it can be read as it is, or None where it must be copied first."""

    def view(self) -> Buffer:
        """Return it as a buffer, copied only where it must be."""

    def copy_to(self, target: memoryview) -> None:
        """Copy it to *target*, which has its size."""


class Spans:
    """The content of a file that need not be in one piece. Iterating gives buffers, `spans` gives addresses.

    Args:
        parts: The pieces, in order.
        still: Whether they are buffers that nobody writes to until this object is gone.
    """

    def __init__(self, parts: Sequence[Buffer | Deferred], *, still: bool = False) -> None:
        self.parts = parts
        self.still = still
        self._sketch: int | None = None

    def __iter__(self) -> Iterator[Buffer]:
        for part in self.parts:
            yield part if isinstance(part, (bytes, bytearray, memoryview)) else part.view()

    def spans(self) -> Iterator[tuple[int, int]]:
        """Yield address and size of each span; it may be read until the next one is asked for."""
        for part in self.parts:
            address = _address_of(part)
            if address is not None:
                yield address, _size_of(part)
            elif not isinstance(part, (bytes, bytearray, memoryview)):
                copied = part.view()
                yield address_of(copied), part.size

    def digest(self) -> str:
        """Return the XXH3 128-bit digest of all of it, 32 hexadecimal digits."""
        digest = xxhash.xxh3_128()
        for address, size in self.spans():
            digest.update(view_at(address, size))
        return digest.hexdigest()

    def sketch(self) -> int | None:
        """Return a hash of some bytes from all over it, taken once, or None where they cannot be read in place.

        It is the same however the content is cut into parts.
        """
        if self._sketch is not None:
            return self._sketch
        digest = xxhash.xxh3_64()
        sizes = [_size_of(part) for part in self.parts]
        total = sum(sizes)
        places = iter(total * number // SAMPLES for number in range(SAMPLES))
        at, stop = next(places), min(SAMPLE, total)
        begin = 0
        for part, size in zip(self.parts, sizes, strict=True):
            end = begin + size
            while at < end:
                address = _address_of(part)
                if address is None:
                    return None
                upto = min(stop, end)  # a sample may go on in the next part
                digest.update(view_at(address + at - begin, upto - at))
                at = upto
                if upto == stop:
                    at = max(stop, next(places, total))
                    stop = min(at + SAMPLE, total)
            begin = end
        self._sketch = digest.intdigest()
        return self._sketch


def _size_of(part: Buffer | Deferred) -> int:
    return memoryview(part).nbytes if isinstance(part, (bytes, bytearray, memoryview)) else part.size


def _address_of(part: Buffer | Deferred) -> int | None:
    return address_of(part) if isinstance(part, (bytes, bytearray, memoryview)) else part.address()


class Slab:
    """Page-aligned memory to be used again and again, in huge pages where the system has them.

    The first touch of a page costs ten times the copy that it is made for, which is why slabs are kept.

    Args:
        size: Bytes.
        mapped: The memory; anonymous by default.
    """

    def __init__(self, size: int, mapped: mmap.mmap | None = None) -> None:
        # Private, or a forked child would write into the same pages.
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
        self._map = mapped or mmap.mmap(-1, max(size, ALIGNMENT), **private)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without them is only slower
                self._map.madvise(mmap.MADV_HUGEPAGE)
        self.view = memoryview(self._map)
        self.size = len(self.view)
        self.address = address_of(self.view)
