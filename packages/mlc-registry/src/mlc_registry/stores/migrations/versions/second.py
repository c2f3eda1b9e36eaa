"""Seal every line of history with the one before it."""

import hashlib

import orjson
import sqlalchemy as sa
from alembic import op

from mlc_registry.stores.migrations.guards import add_guard

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
START = f"sha256:{'0' * 64}"
PAGE = 1000
READ = sa.text("""
    SELECT c.id, c.model_id, m.name AS model, c.kind, c.stage, c.before_id, c.after_id, b.version AS before,
           a.version AS after, a.digest AS content, c.actor, c.reason, c.at, a.metadata, a.description, a.entry
    FROM change_0001 AS c JOIN model AS m ON m.id = c.model_id JOIN version AS a ON a.id = c.after_id
         LEFT JOIN version AS b ON b.id = c.before_id
    WHERE c.id > :last ORDER BY c.id LIMIT :page
""")
SEALED = ("id", "model", "kind", "stage", "before", "after", "content", "actor", "reason", "at", "details")


def upgrade() -> None:
    """Write the history anew, sealed: neither database adds columns that must not be empty to a table that is not."""
    op.rename_table("change", "change_0001")
    change = op.create_table(
        "change",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("model_id", ID, sa.ForeignKey("model.id")),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("before_id", ID, sa.ForeignKey("version.id")),
        sa.Column("after_id", ID, sa.ForeignKey("version.id")),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
    )
    connection = op.get_bind()
    last, previous = 0, START
    while rows := connection.execute(READ, {"last": last, "page": PAGE}).mappings().all():
        sealed = []
        for found in rows:
            row = {**found, "details": _digest_facts(found) if found["kind"] == "registered" else ""}
            previous = _seal(previous, {name: row[name] for name in SEALED})
            kept = {name: row[name] for name in row if name in change.c}
            sealed.append({**kept, "digest": previous})
        connection.execute(sa.insert(change), sealed)
        last = rows[-1]["id"]
    op.drop_table("change_0001")
    op.create_index("ix_change_model", "change", ["model_id", "id"])
    op.create_index("ix_change_version", "change", ["after_id", "id"])
    add_guard("change_is_kept", "change", "DELETE", "no change is ever deleted")
    add_guard("change_is_fixed", "change", "UPDATE", "no change is ever edited")


def _seal(previous: str, facts: dict[str, object]) -> str:
    return _digest({**facts, "previous": previous})


def _digest_facts(row: sa.RowMapping) -> str:
    """Return the digest of what was said about a version when it was registered."""
    return _digest({**{name: row[name] for name in ("metadata", "description", "entry")}, "facts": "{}"})


def _digest(content: dict[str, object]) -> str:
    text = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return f"sha256:{hashlib.sha256(text).hexdigest()}"
