"""A copy of a state in memory of our own, laid out as the files that it will be, so that training may go on."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import attrs

from mlc_core.errors import StateError
from mlc_core.memory import ALIGNMENT, Slab, Spans, address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mlc_core.memory import Buffer, Deferred
    from mlc_core.writer import Content, Plan

    Part = Buffer | Deferred

__all__ = ["Image"]

PIECE = 16 << 20  # bytes copied at once; other threads get their turn in between


class Image:
    """Memory for one staged checkpoint, kept and used again: the first copy into it costs ten times the others.

    Args:
        make: Makes the memory; it is asked again when a state is larger than any before.
    """

    def __init__(self, make: Callable[[int], Slab] = Slab) -> None:
        self._make = make
        self._slab: Slab | None = None

    @property
    def slab(self) -> Slab:
        """The memory, once something was staged."""
        assert self._slab is not None, "nothing was staged yet"
        return self._slab

    def forget(self) -> None:
        """Give the memory back."""
        self._slab = None

    def stage(self, plan: Plan, *, later: Callable[[Part], bool]) -> tuple[Plan, list[tuple[int, Part]]]:
        """Copy what *plan* will write, but for the parts that can be copied *later*.

        Returns:
            The plan of the same checkpoint with its content here, and the parts left, each with its offset.
        """
        offsets, end = [], 0
        for one in plan.contents:
            offsets.append(end)
            end += one.size + -one.size % ALIGNMENT  # each file on a page, so that it can be written from here
        if self._slab is None or self._slab.size < end:
            self._slab = None  # the old memory goes before the new one comes
            self._slab = self._make(end)
        left: list[tuple[int, Part]] = []
        contents = []
        for content, offset in zip(plan.contents, offsets, strict=True):
            left += self._stage_file(content, offset, later)
            pieces = Spans([self._slab.view[offset : offset + content.size]], still=True)
            contents.append(attrs.evolve(content, pieces=pieces))
        return attrs.evolve(plan, contents=tuple(contents)), left

    def _stage_file(self, content: Content, begin: int, later: Callable[[Part], bool]) -> list[tuple[int, Part]]:
        left = []
        offset = begin
        for part in _parts(content.pieces):
            size = _size_of(part)
            if offset + size > begin + content.size:
                msg = f"serializer {content.serializer!r} gave more than the {content.size:,} bytes of {content.name}"
                raise StateError(msg)
            if later(part):
                left.append((offset, part))
            else:
                self._copy(offset, part)
            offset += size
        if offset != begin + content.size:
            msg = f"serializer {content.serializer!r} gave less than the {content.size:,} bytes of {content.name}"
            raise StateError(msg)
        return left

    def copy(self, left: Sequence[tuple[int, Part]]) -> None:
        """Copy the parts that `stage` left."""
        for offset, part in left:
            self._copy(offset, part)

    def _copy(self, offset: int, part: Part) -> None:
        if isinstance(part, (bytes, bytearray, memoryview)):
            address: int | None = address_of(part)
        else:
            address = part.address()
            if address is None:
                part.copy_to(self.slab.view[offset : offset + part.size])
                return
        size, target = _size_of(part), self.slab.address + offset
        for begin in range(0, size, PIECE):
            ctypes.memmove(target + begin, (address or 0) + begin, min(PIECE, size - begin))


def _parts(pieces: Iterable[Buffer]) -> Iterable[Part]:
    return pieces.parts if isinstance(pieces, Spans) else pieces


def _size_of(part: Part) -> int:
    return memoryview(part).nbytes if isinstance(part, (bytes, bytearray, memoryview)) else part.size
