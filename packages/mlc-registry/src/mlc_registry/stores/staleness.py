"""Whether a decision that was made outside of a transaction still stands within it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select

from mlc_registry.errors import StageConflictError
from mlc_registry.stores.tables import change, model

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["refuse_stale"]

TAKES_BACK = ("rolled back", "demoted", "yanked", "removed", "withdrawn")
"""What may forbid a promotion that was allowed; everything else can only allow more, or moves the stage itself."""
SINCE = (
    select(change.c.kind, change.c.actor)
    .outerjoin(model, model.c.id == change.c.model_id)
    .where(
        change.c.id > bindparam("seen"),
        (change.c.kind == "configured") | (change.c.kind.in_(TAKES_BACK) & (model.c.name == bindparam("model"))),
    )
    .order_by(change.c.id)
    .limit(1)
)


def refuse_stale(connection: Connection, name: str, stage: str, seen: int | None) -> None:
    """Raise if a line behind number *seen* takes back what a promotion of the model *name* to *stage* went by.

    Raises:
        StageConflictError: If one does; says what happened.
    """
    if seen is None:
        return
    found = connection.execute(SINCE, {"seen": seen, "model": name}).first()
    if found is not None:
        what = "the registry was configured" if found[0] == "configured" else f"a version was {found[0]}"
        if found[0] == "withdrawn":
            what = "an approval was withdrawn"
        msg = f"stage {stage!r} of {name!r} was not moved, as {what} by {found[1]} meanwhile; try again"
        raise StageConflictError(msg)
