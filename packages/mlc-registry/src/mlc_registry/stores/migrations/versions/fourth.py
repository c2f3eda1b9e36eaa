"""What is said about versions beside their files, and the tables that searches ask."""

import sqlalchemy as sa
from alembic import op

from mlc_registry.stores.migrations.guards import add_guard, drop_guard

revision = "0004"
down_revision = "0003"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
PUBLISHED = (
    "id, model_id, version, sort_key, prerelease, digest, size, directory, entry, metadata, description, created_at, "
    "created_by, facts"
)


def upgrade() -> None:
    """Make the columns and tables; what was published before says nothing in them, but for the words."""
    op.add_column("version", sa.Column("facts", sa.Text, nullable=False, server_default="{}"))
    op.add_column("version", sa.Column("removed", sa.Boolean, nullable=False, server_default=sa.false()))
    drop_guard("version_is_immutable", "version")
    add_guard("version_is_immutable", "version", f"UPDATE OF {PUBLISHED}", "a published version is never edited")
    add_guard(
        "version_stays_removed",
        "version",
        "UPDATE OF removed, yanked",
        "what was removed is never there again",
        case="OLD.removed AND NOT (NEW.removed AND NEW.yanked)",
    )
    yanked = sa.column("yanked", sa.Boolean).is_(sa.true())
    op.create_index("ix_version_yanked", "version", ["model_id", "id"], sqlite_where=yanked, postgresql_where=yanked)
    op.create_index("ix_version_digest", "version", ["model_id", "digest", "sort_key"])
    op.create_index("ix_stage_name", "stage", ["name", "version_id"])
    _make_table("tag", _of_version(), _key("key"), sa.Column("value", NAME, nullable=False))
    op.create_index("ix_tag_value", "tag", ["key", "value", "version_id"])
    op.create_index("ix_tag_key", "tag", ["key", "version_id"])
    _make_table("mark", _key("kind"), _key("value"), _of_version())
    _make_table("metric", _of_version(), _key("name"), sa.Column("value", sa.Double, nullable=False))
    op.create_index("ix_metric_value", "metric", ["name", "value", "version_id"])
    op.create_index("ix_metric_version", "metric", ["name", "version_id", "value"])
    _make_table("word", _key("word"), _of_version())
    op.create_index("ix_word_version", "word", ["version_id", "word"])
    _make_table("dependency", _of_version(), _key("name"))
    op.create_index("ix_dependency_name", "dependency", ["name", "version_id"])
    _fill_words()


def _make_table(name: str, *columns: sa.Column[object]) -> None:
    op.create_table(name, *columns, sqlite_with_rowid=False)


def _of_version() -> sa.Column[object]:
    return sa.Column("version_id", ID, sa.ForeignKey("version.id"), primary_key=True)


def _key(name: str) -> sa.Column[object]:
    return sa.Column(name, NAME, primary_key=True)


def _fill_words() -> None:
    from mlc_registry.words import split_words  # of today: what is found depends on it, and nothing is lost by it

    connection = op.get_bind()
    found = connection.execute(
        sa.text("SELECT v.id, m.name, v.description FROM version AS v JOIN model AS m ON m.id = v.model_id")
    )
    rows = [
        {"version_id": row.id, "word": one} for row in found for one in sorted(split_words(row.name, row.description))
    ]
    if rows:
        word = sa.table("word", sa.column("version_id", ID), sa.column("word", NAME))
        connection.execute(sa.insert(word), rows)
