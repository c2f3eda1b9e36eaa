"""Models, versions with their files, stages, and the history of all of them."""

import sqlalchemy as sa
from alembic import op

from mlc_registry.stores.migrations.guards import add_guard, prepare_guards

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

# What was published or happened stays as it was, whoever asks: only `yanked` and its reason may change.
PUBLISHED = (
    "id, model_id, version, sort_key, prerelease, digest, size, directory, entry, metadata, description, created_at, "
    "created_by"
)
KEPT = ("model", "version", "file", "change")
FIXED = ("model", "file", "change")


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "model",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("name", NAME, nullable=False),
        sa.UniqueConstraint("name", name="uq_model_name"),
    )
    op.create_index("ux_model_folded_name", "model", [sa.text("lower(name)")], unique=True)
    op.create_table(
        "version",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("model_id", ID, sa.ForeignKey("model.id"), nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("sort_key", sa.LargeBinary, nullable=False),
        sa.Column("prerelease", sa.Boolean, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("directory", sa.Text, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("yanked", sa.Boolean, nullable=False),
        sa.Column("yank_reason", sa.Text, nullable=False),
        sa.UniqueConstraint("model_id", "sort_key", name="uq_version_model_id_sort_key"),
    )
    current = sa.not_(sa.column("yanked", sa.Boolean))
    releases = sa.not_(sa.column("prerelease", sa.Boolean)) & current
    op.create_index(
        "ix_version_release", "version", ["model_id", "sort_key"], sqlite_where=releases, postgresql_where=releases
    )
    op.create_index("ix_version_newest", "version", ["model_id", "id"], sqlite_where=current, postgresql_where=current)
    op.create_table(
        "file",
        sa.Column("version_id", ID, sa.ForeignKey("version.id"), primary_key=True),
        sa.Column("path", NAME, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
    )
    op.create_table(
        "stage",
        sa.Column("model_id", ID, sa.ForeignKey("model.id"), primary_key=True),
        sa.Column("name", NAME, primary_key=True),
        sa.Column("version_id", ID, sa.ForeignKey("version.id"), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "change",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("model_id", ID, sa.ForeignKey("model.id"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("before_id", ID, sa.ForeignKey("version.id")),
        sa.Column("after_id", ID, sa.ForeignKey("version.id"), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_change_model", "change", ["model_id", "id"])
    prepare_guards()
    add_guard("version_is_immutable", "version", f"UPDATE OF {PUBLISHED}", "a published version is never edited")
    for table in KEPT:
        add_guard(f"{table}_is_kept", table, "DELETE", f"no {table} is ever deleted")
    for table in FIXED:
        add_guard(f"{table}_is_fixed", table, "UPDATE", f"no {table} is ever edited")
