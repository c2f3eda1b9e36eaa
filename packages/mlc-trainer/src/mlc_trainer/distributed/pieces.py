"""Which samples of a batch are whose: cut into parts first, as one process would, then each part among the processes.

So that any number of processes, each with its pieces, takes the steps that one process takes with the whole batches.
"""

from __future__ import annotations

import attrs

__all__ = ["WHOLE", "Cut"]


@attrs.frozen
class Cut:
    """How a batch is cut."""

    parts: int = 1
    """Into how many parts that come one after the other on the device."""
    rank: int = 0
    """Of this process."""
    ranks: int = 1
    """Among how many processes each part is shared out."""

    def sizes(self, length: int) -> list[int]:
        """Return how many of *length* samples each part has, all processes together, as `torch.chunk` cuts."""
        size = -(-length // self.parts)
        return [min(size, length - start) for start in range(0, length, size)]

    def own(self, length: int) -> list[range]:
        """Return which of *length* samples are this process's, part by part."""
        return self.of(self.rank, length)

    def of(self, rank: int, length: int) -> list[range]:
        """Return which of *length* samples are those of *rank*, part by part: the earlier ranks get one more."""
        found, start = [], 0
        for size in self.sizes(length):
            least, more = divmod(size, self.ranks)
            first = start + rank * least + min(rank, more)
            found.append(range(first, first + least + (rank < more)))
            start += size
        return found

    def rows(self, length: int) -> list[int]:
        """Return which of *length* samples this process loads: its own, and the first of a part where it has none.

        All processes take part in what they do together, and a part may have fewer samples than there are processes.
        """
        found: list[int] = []
        start = 0
        for size, part in zip(self.sizes(length), self.own(length), strict=True):
            found.extend(part or (start,))
            start += size
        return found


WHOLE = Cut()
"""One process, and a batch as it is."""
