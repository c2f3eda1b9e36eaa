"""What a search may ask of a version: each condition drives a search by an index, or is probed for one version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from sqlalchemy import (
    BigInteger,
    ColumnClause,
    Select,
    bindparam,
    exists,
    func,
    literal_column,
    not_,
    select,
    union_all,
)

from mlc_registry.stores.derived import KINDS
from mlc_registry.stores.tables import YANKED, mark, metric, model, stage, tag, version, word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import BindParameter, ColumnElement, Table

    from mlc_registry.records import Query

__all__ = ["Condition", "count_matches", "find_ids", "read_conditions"]

AFTER = bindparam("after", type_=BigInteger)
LIMIT = bindparam("limit", type_=BigInteger)
ZERO: ColumnClause[int] = literal_column("0")
"""Added to a column, it keeps the database from walking an index for that column's sake."""
LAST = "\U0010ffff"
"""Behind every character of a word."""
SIGNS = {
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    "==": lambda column, value: column == value,
    ">=": lambda column, value: column >= value,
    ">": lambda column, value: column > value,
}


@attrs.frozen
class Condition:
    """One condition without its values, so that the statement of a search is compiled once for all like it."""

    kind: str
    number: int
    """Its place in the query, by which its values are named."""
    detail: str = ""
    """The sign of a comparison, or those of two that make an interval."""

    @property
    def is_ordered(self) -> bool:
        """Whether one index holds what meets it in the order of versions."""
        return self.kind not in {"metric", "beginning"}

    @property
    def table(self) -> Table:
        """Where it is looked up."""
        tables = {"model": version, "stage": stage, "tag": tag, "key": tag, "mark": mark, "metric": metric}
        return tables.get(self.kind, word)

    def holds(self, table: Any, *, walks: bool = False) -> ColumnElement[bool]:
        """Return what a row of its *table* must meet; *walks*, if that is looked through version by version."""
        first: BindParameter[Any] = bindparam(f"first{self.number}")
        second: BindParameter[Any] = bindparam(f"second{self.number}")
        held: ColumnElement[bool]
        if self.kind == "model":
            held = table.c.model_id == select(model.c.id).where(model.c.name == first).scalar_subquery()
        elif self.kind in {"stage", "word"}:
            held = (table.c.name if self.kind == "stage" else table.c.word) == first
        elif self.kind == "key":
            held = table.c.key == first
        elif self.kind == "tag":
            held = (table.c.key == first) & (table.c.value == second)
        elif self.kind == "mark":
            held = (table.c.kind == first) & (table.c.value == second)
        elif self.kind == "metric":
            value = table.c.value + ZERO if walks else table.c.value
            sign, _, other = self.detail.partition(" ")
            held = (table.c.name == first) & SIGNS[sign](value, second)
            if other:
                held &= SIGNS[other](value, bindparam(f"third{self.number}"))
        else:
            held = (table.c.word >= first) & (table.c.word < second)
        return held

    def probe(self, number: ColumnElement[int]) -> ColumnElement[bool]:
        """Return whether the version *number* meets it."""
        table = self.table.alias(f"probe{self.number}")
        of_version = table.c.id if self.kind == "model" else table.c.version_id
        return exists(select(ZERO).where(of_version == number, self.holds(table)).correlate_except(table))


def read_conditions(query: Query) -> tuple[tuple[Condition, ...], dict[str, Any]]:
    """Return the conditions of *query*, and their values by name."""
    given: list[tuple[Any, ...]] = []
    if query.model is not None:
        given.append(("model", "", query.model, None))
    if query.stage is not None:
        given.append(("stage", "", query.stage, None))
    given += [("key" if value is None else "tag", "", key, value) for key, value in query.tags.items()]
    given += [("mark", "", one, value) for one in KINDS if (value := getattr(query, one)) is not None]
    given += _read_metrics(query)
    given += [("word", "", one, None) for one in query.words[:-1]]
    given += [("beginning", "", one, one + LAST) for one in query.words[-1:]]
    conditions = tuple(Condition(kind, number, detail) for number, (kind, detail, *_) in enumerate(given))
    values = {
        f"{place}{number}": value
        for number, (_, _, *kept) in enumerate(given)
        for place, value in zip(("first", "second", "third"), kept, strict=False)
        if value is not None
    }
    return conditions, values


def _read_metrics(query: Query) -> list[tuple[Any, ...]]:
    """Return the comparisons, those of one metric with a lower and an upper bound as one: few may be in between."""
    given: list[tuple[Any, ...]] = []
    for name in dict.fromkeys(name for name, _, _ in query.metrics):
        of_name = [(sign, value) for each, sign, value in query.metrics if each == name]
        lower = [one for one in of_name if one[0] in {">", ">="}]
        upper = [one for one in of_name if one[0] in {"<", "<="}]
        paired = min(len(lower), len(upper))
        for (above, low), (below, high) in zip(lower, upper, strict=False):
            given.append(("metric", f"{above} {below}", name, low, high))
        rest = [one for one in of_name if one[0] == "=="] + lower[paired:] + upper[paired:]
        given += [("metric", sign, name, value) for sign, value in rest]
    return given


def count_matches(condition: Condition) -> Select[Any]:
    """Return how many rows meet *condition*, at most `limit`."""
    found = select(ZERO).select_from(condition.table).where(condition.holds(condition.table)).limit(LIMIT)
    return select(func.count()).select_from(found.subquery())


def find_ids(conditions: Sequence[Condition], *, driver: int | None, walks: bool, yanked: bool) -> Select[Any]:
    """Return the ids of the versions that meet all *conditions*, below `after`, from above, at most `limit`.

    What meets the condition number *driver* is looked through, and every other condition is probed. If it *walks*, that
    is done version by version from above; otherwise all that meets it is taken first, and sorted. Without a *driver*
    all versions are walked through.
    """
    others = [one for one in conditions if one.number != driver]
    if driver is None or conditions[driver].kind == "model":
        return _walk_versions(others, None if driver is None else conditions[driver], yanked=yanked)
    leading = conditions[driver]
    number = leading.table.c.version_id
    ordered = number if walks else number + ZERO
    probes = [one.probe(number) for one in others]
    if not yanked:
        there = version.alias("there")
        probes.append(exists(select(ZERO).where(there.c.id == number, not_(there.c.yanked)).correlate_except(there)))
    asked = select(ordered.label("id")).where(leading.holds(leading.table, walks=walks), ordered < AFTER, *probes)
    if leading.kind == "beginning":
        asked = asked.distinct()
    return asked.order_by(literal_column("id").desc()).limit(LIMIT)


def _walk_versions(others: Sequence[Condition], of_model: Condition | None, *, yanked: bool) -> Select[Any]:
    def walk(*which: ColumnElement[bool]) -> Select[Any]:
        probes = [one.probe(version.c.id) for one in others]
        of = [] if of_model is None else [of_model.holds(version)]
        asked = select(version.c.id).where(*of, *which, version.c.id < AFTER, *probes)
        return asked.order_by(version.c.id.desc()).limit(LIMIT)

    if not yanked:
        return walk(not_(version.c.yanked))
    if of_model is None:
        return walk()
    halves = [walk(not_(version.c.yanked)).subquery(), walk(YANKED).subquery()]
    both = union_all(*[select(one.c.id) for one in halves]).subquery()
    return select(both.c.id).order_by(both.c.id.desc()).limit(LIMIT)
