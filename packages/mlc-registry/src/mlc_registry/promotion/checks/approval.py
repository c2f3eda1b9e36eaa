"""People must have approved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlc_registry.errors import PolicyError

if TYPE_CHECKING:
    from mlc_registry.records import Promotion

__all__ = ["ApprovalCheck"]


class ApprovalCheck:
    """Counts who has approved the version for the stage.

    Args:
        count: How many it takes.
        by: Whose approvals count; everybody's unless said.
        not_publisher: Whether that of who published the version does not count.

    Raises:
        PolicyError: If there can never be so many.
    """

    def __init__(self, *, count: int = 1, by: Sequence[str] | None = None, not_publisher: bool = False) -> None:
        if not _is_count(count):
            _refuse(f"count={count!r} must be a number, 1 or more")
        if not _is_flag(not_publisher):
            _refuse(f"not_publisher={not_publisher!r} must be true or false")
        if by is not None and not _is_list_of_names(by):
            _refuse(f"by={by!r} must be a list of names")
        if by is not None and len(set(by)) < count:
            _refuse(f"{count} cannot approve where only {', '.join(sorted(set(by))) or 'nobody'} may")
        self._count = count
        self._by = None if by is None else frozenset(by)
        self._not_publisher = not_publisher

    def object_to(self, promotion: Promotion) -> str:
        """Return how many approvals are missing, and whose."""
        publisher = promotion.version.created_by
        given = {one.actor for one in promotion.approvals}
        excluded = {publisher} if self._not_publisher else set()
        counted = (given if self._by is None else given & self._by) - excluded
        missing = self._count - len(counted)
        if missing <= 0:
            return ""
        whose = "" if self._by is None else f" of {', '.join(sorted(self._by - excluded - counted)) or 'nobody'}"
        who = ", ".join(sorted(counted))
        said = f"only {who} approved" if counted else "nobody who counts has approved"
        spent = f"; {publisher} published it and does not count" if publisher in given & excluded else ""
        spec = f"{promotion.version.model}@{promotion.version.version}"
        way = f"mlc registry approve {spec} {promotion.stage}"
        return f"{said}{spent}. {missing} more{whose} must: {way}"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_list_of_names(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(one, str) and one for one in value)
    )


def _refuse(why: str) -> None:
    msg = f"approval: {why}"
    raise PolicyError(msg)
