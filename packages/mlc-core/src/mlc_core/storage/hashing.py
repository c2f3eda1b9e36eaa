"""Digests of what is written, taken while it is written: a storage's `write` in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

from mlc_core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlc_core.protocols import Buffer

__all__ = ["Hashed"]


class Hashed:
    """The *pieces* of a file, hashed and counted on their way; *digest* is right once all were taken.

    Args:
        pieces: The content.
        size: How many bytes they must have together.
        where: The file, for the error.

    Raises:
        StorageError: While iterating, at the end, if there were more or fewer bytes.
    """

    def __init__(self, pieces: Iterable[Buffer], size: int, where: object) -> None:
        self._pieces = pieces
        self._size = size
        self._where = where
        self._hash = xxhash.xxh3_128()

    def __iter__(self) -> Iterator[Buffer]:
        found = 0
        for piece in self._pieces:
            self._hash.update(piece)
            found += memoryview(piece).nbytes
            yield piece
        if found != self._size:
            msg = f"{self._where} was announced with {self._size:,} bytes and given {found:,}"
            raise StorageError(msg)

    @property
    def digest(self) -> str:
        """XXH3 128-bit, 32 hexadecimal digits."""
        return self._hash.hexdigest()
