"""What need not be written again, because the last checkpoint has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_core.memory import Spans

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlc_core.protocols import Buffer
    from mlc_core.records import FileRecord, Saved

__all__ = ["Increment"]

WORTH_LINKING = 1 << 16  # bytes; below, writing is as quick


class Increment:
    """Finds files whose content is that of the same file in an earlier checkpoint.

    Hashing all of a model to learn that it has changed would cost a tenth of a save. A sketch, the hash of some bytes
    from all over the file, tells almost always; only what looks the same is hashed as a whole, and only the whole
    digest decides.
    """

    def __init__(self) -> None:
        self._sketches: dict[str, int] = {}

    def find(
        self, name: str, size: int, pieces: Iterable[Buffer], before: Saved | None, *, frozen: bool
    ) -> FileRecord | None:
        """Return the file of the checkpoint *before* that has this content, or None.

        What lies on a device must be copied to be hashed: that is tried for what is *frozen* only.
        """
        if before is None or size < WORTH_LINKING or not isinstance(pieces, Spans):
            return None
        record = next((one for one in before.files if one.name == name and one.size == size), None)
        if record is None:
            return None
        sketch, known = pieces.sketch(), self._sketches.get(record.xxh3_128)
        if sketch != known if sketch is not None and known is not None else sketch is None and not frozen:
            return None
        return record if pieces.digest() == record.xxh3_128 else None

    def remember(self, written: Iterable[tuple[FileRecord, Iterable[Buffer]]]) -> None:
        """Keep sketches of the files of the newest checkpoint, and of no other."""
        sketches = {}
        for record, pieces in written:
            sketch = pieces.sketch() if record.size >= WORTH_LINKING and isinstance(pieces, Spans) else None
            if sketch is not None:
                sketches[record.xxh3_128] = sketch
        self._sketches = sketches
