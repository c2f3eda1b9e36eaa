"""Searches across models: the rarest condition is looked up, and the others are probed."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, not_, select

from mlc_registry.errors import InvalidQueryError
from mlc_registry.records import Page
from mlc_registry.requirements import require_text, show
from mlc_registry.stores.conditions import Condition, count_matches, find_ids, read_conditions
from mlc_registry.stores.prepared import Prepared
from mlc_registry.stores.queries import OF_VERSION, read_version
from mlc_registry.stores.tables import dependency, model, version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine, Select

    from mlc_registry.records import ModelVersion, Query
    from mlc_registry.stores.reader import Reader

__all__ = ["SqlSearches"]

ALL = 2**63 - 1
RARE = 5000
"""What fewer rows meet is taken as a whole and sorted; what more meet is walked through, as a page is soon full.

Of a million versions, both cost the same at about 7000.
"""
DEPENDENTS = (
    select(model.c.name, *OF_VERSION)
    .join_from(dependency, version, version.c.id == dependency.c.version_id)
    .join(model, model.c.id == version.c.model_id)
    .where(dependency.c.name == bindparam("model"), not_(version.c.removed))
    .order_by(model.c.name, version.c.sort_key.desc())
)


class SqlSearches:
    """`Searches` in tables."""

    def __init__(self, reader: Reader, engine: Engine) -> None:
        self._reader = reader

        @lru_cache(maxsize=256)
        def prepare(make: Any, *arguments: Any) -> Prepared:
            return Prepared(make(*arguments), engine)

        self._prepare = prepare

    def search(self, query: Query, *, after: str | None = None, limit: int = 50) -> Page:
        """Return at most *limit* versions that *query* describes, those behind the page whose `next` is *after*.

        Raises:
            InvalidQueryError: If *after* is no such token.
        """
        conditions, values = read_conditions(query)
        driver, walks = self._choose(conditions, values)
        asked = {**values, "after": ALL if after is None else _read_token(after), "limit": limit + 1}
        rows = self._reader.run(self._prepare(_find_versions, conditions, driver, walks, query.yanked), asked)
        versions = tuple(read_version(name, row) for _, name, *row in rows[:limit])
        return Page(versions=versions, next=_make_token(rows[limit - 1][0]) if len(rows) > limit else None)

    def list_dependents(self, model: str) -> Sequence[ModelVersion]:
        """Return the versions that depend on *model* and are not removed, by model, the highest first."""
        return tuple(read_version(name, row) for name, *row in self._reader.ask(DEPENDENTS, {"model": model}))

    def _choose(self, conditions: Sequence[Condition], values: dict[str, Any]) -> tuple[int | None, bool]:
        """Return the number of the condition to begin with, and whether to walk through what meets it."""
        if len(conditions) == 1 and conditions[0].is_ordered:
            return 0, True
        counts = [self._count(one, values) for one in conditions]
        rarest = min(range(len(counts)), key=counts.__getitem__, default=None)
        if rarest is not None and counts[rarest] < RARE:
            return rarest, False
        # All of them are frequent: one that needs no sorting, or else a metric; a beginning is probed for all versions.
        walked = [one.number for one in conditions if one.is_ordered] + [
            one.number for one in conditions if one.kind == "metric"
        ]
        return (walked[0] if walked else None), True

    def _count(self, condition: Condition, values: dict[str, Any]) -> int:
        prepared = self._prepare(count_matches, condition)
        names = {f"{place}{condition.number}" for place in ("first", "second", "third")}
        asked = {name: value for name, value in values.items() if name in names}
        return int(self._reader.run(prepared, {**asked, "limit": RARE})[0][0])


def _find_versions(conditions: tuple[Condition, ...], driver: int | None, walks: bool, yanked: bool) -> Select[Any]:  # noqa: FBT001 - a key of the cache
    found = find_ids(conditions, driver=driver, walks=walks, yanked=yanked).subquery()
    return (
        select(version.c.id, model.c.name, *OF_VERSION)
        .join_from(version, model, model.c.id == version.c.model_id)
        .where(version.c.id.in_(select(found.c.id)))
        .order_by(version.c.id.desc())
    )


def _make_token(number: int) -> str:
    return f"{number:x}.{zlib.crc32(b'mlc %x' % number):08x}"


def _read_token(token: str) -> int:
    require_text(token, "after", error=InvalidQueryError)
    try:
        number = int(token.partition(".")[0], 16)
    except ValueError:
        number = 0
    if not 0 < number < ALL or _make_token(number) != token:
        msg = f"{show(token)} is no page of a search; pass what page.next was, as it was"
        raise InvalidQueryError(msg)
    return number
