"""The tables that only searches read: what facts, tags and notes say, in the order in which it is looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BindParameter, bindparam, delete, insert, select

from mlc_registry.facts import NOTHING, decode_facts
from mlc_registry.records import Tracking
from mlc_registry.stores.tables import change, dependency, mark, metric, model, tag, version, word
from mlc_registry.words import split_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Table

__all__ = ["KINDS", "insert_facts", "rebuild", "refresh_words"]

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
GONE: BindParameter[str] = bindparam("gone", expanding=True)
DELETE_WORDS = delete(word).where(word.c.version_id == OF_VERSION, word.c.word.in_(GONE))
FACTS = select(version.c.id, version.c.facts).order_by(version.c.id)
PAGE = 500


def insert_facts(connection: Connection, version_id: int, *, tracking: Tracking, dependencies: Iterable[str]) -> None:
    """Write what is to be found of the facts about a version, once."""
    for table, rows in _list_facts(version_id, tracking, dependencies).items():
        if rows:
            connection.execute(insert(table), rows)


def refresh_words(connection: Connection, version_id: int) -> None:
    """Let a version be found by the words that its name, its description, its data set, its tags and its notes hold."""
    asked = {"version_id": version_id}
    texts = [text for one in (SAID, DATASETS, TAGS, NOTES) for row in connection.execute(one, asked) for text in row]
    wanted = split_words(*texts)
    there = set(connection.execute(WORDS, asked).scalars())
    gone = sorted(there - wanted)
    for start in range(0, len(gone), PAGE):
        connection.execute(DELETE_WORDS, {**asked, "gone": gone[start : start + PAGE]})
    new = [{"word": one, **asked} for one in sorted(wanted - there)]
    if new:
        connection.execute(insert(word), new)


def rebuild(connection: Connection) -> None:
    """Fill the tables, which are empty, for all versions."""
    for number, facts in connection.execute(FACTS).all():
        if facts != NOTHING:
            said = decode_facts(facts)
            insert_facts(
                connection,
                number,
                tracking=said.get("tracking", Tracking()),
                dependencies=said.get("dependencies", ()),
            )
        refresh_words(connection, number)


def _list_facts(
    version_id: int, tracking: Tracking, dependencies: Iterable[str]
) -> dict[Table, list[dict[str, object]]]:
    of_version = {"version_id": version_id}
    return {
        mark: [{"kind": one, "value": value, **of_version} for one in KINDS if (value := getattr(tracking, one))],
        metric: [{"name": name, "value": value, **of_version} for name, value in tracking.metrics.items()],
        dependency: [{"name": name, **of_version} for name in dependencies],
    }
