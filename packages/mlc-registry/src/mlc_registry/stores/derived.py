"""The tables that only searches read: what facts, tags and notes say, in the order in which it is looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import BindParameter, bindparam, delete, insert, literal, select

from mlc_registry.facts import NOTHING, decode_facts
from mlc_registry.metadata import decode_metadata
from mlc_registry.metrics import list_metrics
from mlc_registry.records import Tracking
from mlc_registry.stores.prepared import ask, tell
from mlc_registry.stores.tables import change, dependency, mark, metric, model, tag, version, word
from mlc_registry.words import split_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection, Table

__all__ = ["KINDS", "insert_facts", "list_found", "list_words", "read_found", "rebuild", "refresh_words"]

KINDS = ("dataset", "run", "commit", "checkpoint")
"""What of a version's tracking is searched for by its whole text."""
OF_VERSION: BindParameter[int] = bindparam("version_id")
SAID = (
    select(model.c.name, version.c.description)
    .join_from(version, model, model.c.id == version.c.model_id)
    .where(version.c.id == OF_VERSION)
)
DATASETS = select(mark.c.value).where(mark.c.version_id == OF_VERSION, mark.c.kind == "dataset")
TAGS = select(tag.c.key, tag.c.value).where(tag.c.version_id == OF_VERSION)
NOTES = (
    select(change.c.details)
    .where(change.c.after_id == OF_VERSION, change.c.kind == "noted")
    .order_by(change.c.id.desc())
    .limit(1)
)
WORDS = select(word.c.word).where(word.c.version_id == OF_VERSION)
INSERTS = {table: insert(table) for table in (mark, metric, dependency, word)}
GONE: BindParameter[str] = bindparam("gone", expanding=True)
DELETE_WORDS = delete(word).where(word.c.version_id == OF_VERSION, word.c.word.in_(GONE))
FACTS = select(version.c.id, version.c.facts, version.c.metadata).order_by(version.c.id)
FOUND = {
    mark: select(mark.c.version_id, mark.c.kind, mark.c.value),
    metric: select(metric.c.version_id, metric.c.name, metric.c.value),
    dependency: select(dependency.c.version_id, dependency.c.name, literal("")),
}
METRICS = '"metrics"'
"""What metadata hold that state metrics."""
PAGE = 500


def insert_facts(
    connection: Connection,
    version_id: int,
    *,
    metadata: Mapping[str, Any],
    tracking: Tracking,
    dependencies: Iterable[str],
) -> None:
    """Write what is to be found of the facts about a version, once."""
    for table, rows in _list_facts(version_id, metadata, tracking, dependencies).items():
        tell(connection, INSERTS[table], rows)


def list_found(facts: str, metadata: str) -> set[tuple[str, str, object]]:
    """Return what there is to be found of what is said of a version: the table, a name, and the value."""
    if facts == NOTHING and METRICS not in metadata:
        return set()
    said = decode_facts(facts)
    stated = decode_metadata(metadata)
    rows = _list_facts(0, stated, said.get("tracking", Tracking()), said.get("dependencies", ()))
    found = {
        (table.name, one.get("kind") or one["name"], one.get("value", "")) for table in rows for one in rows[table]
    }
    return cast("set[tuple[str, str, object]]", found)


def read_found(connection: Connection) -> dict[int, set[tuple[str, str, object]]]:
    """Return what there is to be found of every version, as `list_found` says it."""
    found: dict[int, set[tuple[str, str, object]]] = {}
    for table, asked in FOUND.items():
        for number, name, value in connection.execute(asked):
            found.setdefault(number, set()).add((table.name, name, value))
    return found


def list_words(name: str, description: str, facts: str, tags: Mapping[str, str], notes: str) -> set[str]:
    """Return the words that a version is to be found by."""
    said = {} if facts == NOTHING else decode_facts(facts)
    dataset = said.get("tracking", Tracking()).dataset
    return split_words(name, description, dataset, notes, *tags, *tags.values())


def refresh_words(connection: Connection, version_id: int) -> None:
    """Let a version be found by the words that its name, its description, its data set, its tags and its notes hold."""
    asked = {"version_id": version_id}
    texts = [text for one in (SAID, DATASETS, TAGS, NOTES) for row in ask(connection, one, **asked) for text in row]
    wanted = split_words(*texts)
    there = {one for (one,) in ask(connection, WORDS, **asked)}
    gone = sorted(there - wanted)
    for start in range(0, len(gone), PAGE):
        connection.execute(DELETE_WORDS, {**asked, "gone": gone[start : start + PAGE]})
    tell(connection, INSERTS[word], [{"word": one, **asked} for one in sorted(wanted - there)])


def rebuild(connection: Connection) -> None:
    """Fill the tables, which are empty, for all versions."""
    for number, facts, metadata in connection.execute(FACTS).all():
        if facts != NOTHING or METRICS in metadata:
            said = decode_facts(facts)
            insert_facts(
                connection,
                number,
                metadata=decode_metadata(metadata),
                tracking=said.get("tracking", Tracking()),
                dependencies=said.get("dependencies", ()),
            )
        refresh_words(connection, number)


def _list_facts(
    version_id: int, metadata: Mapping[str, Any], tracking: Tracking, dependencies: Iterable[str]
) -> dict[Table, list[dict[str, object]]]:
    of_version = {"version_id": version_id}
    return {
        mark: [{"kind": one, "value": value, **of_version} for one in KINDS if (value := getattr(tracking, one))],
        metric: [
            {"name": name, "value": value, **of_version}
            for name, value in list_metrics(metadata, tracking.metrics).items()
        ],
        dependency: [{"name": name, **of_version} for name in dependencies],
    }
