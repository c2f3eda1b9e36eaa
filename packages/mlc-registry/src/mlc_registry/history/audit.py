"""The history of a whole registry: read it, and prove that nobody has changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_registry.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlc_registry.protocols import Ledger, Store
    from mlc_registry.records import Audited, Line

__all__ = ["Audit"]

PAGE = 500


class Audit:
    """The sealed history of a registry, of all of its models.

    Each line holds a digest over itself and the digest of the line before, so whoever changes one has to change all
    that follow. Whoever can write to the database can do that too: note the head where they cannot write, and give it
    to `verify` as *expected_head*.
    """

    def __init__(self, store: Store) -> None:
        ledger: Ledger | None = getattr(store, "ledger", None)
        if ledger is None:
            msg = f"{type(store).__name__} keeps no sealed history, so there is nothing to audit"
            raise StoreError(msg)
        self._ledger = ledger

    @property
    def head(self) -> str:
        """The digest of the last line: that of the whole history."""
        return self._ledger.read_head()[1]

    def lines(self, *, after: int = 0) -> Iterator[Line]:
        """Return the lines behind number *after*, the oldest first."""
        while page := self._ledger.read_lines(after=after, limit=PAGE):
            yield from page
            after = page[-1].number

    def verify(self, *, expected_head: str | None = None) -> Audited:
        """Compute every digest anew, and compare versions, files and stages with what the history says of them.

        Args:
            expected_head: A head that was noted earlier, which a line must have.

        Raises:
            AuditError: Names the first line that was edited, moved or taken out, or what is not as the history says.
        """
        return self._ledger.verify(expected_head=expected_head)
