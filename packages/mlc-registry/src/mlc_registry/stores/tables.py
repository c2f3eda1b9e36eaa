"""The tables, as statements see them; migrations make them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    not_,
)

__all__ = ["HEAD", "REVISION_TABLE", "TABLES", "change", "file", "listener", "model", "stage", "version"]

HEAD = "0003"
"""The revision that this code reads and writes."""
REVISION_TABLE = "mlc_registry_revision"
"""Ours alone, so that the registry can share a database with others that use Alembic."""

TABLES = MetaData(naming_convention={"uq": "uq_%(table_name)s_%(column_0_N_name)s"})
# SQLite counts only in INTEGER; other databases need the large one for a table that never shrinks.
Id = BigInteger().with_variant(Integer, "sqlite")
# Sorted and folded by their bytes in every database, whatever language it speaks.
Name = Text().with_variant(Text(collation="C"), "postgresql")

model = Table(
    "model",
    TABLES,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("name", Name, nullable=False, unique=True),
)
Index("ux_model_folded_name", func.lower(model.c.name), unique=True)  # some file systems do not tell cases apart

version = Table(
    "version",
    TABLES,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("model_id", ForeignKey("model.id"), nullable=False),
    Column("version", Text, nullable=False),
    Column("sort_key", LargeBinary, nullable=False),
    Column("prerelease", Boolean, nullable=False),
    Column("digest", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("directory", Text, nullable=False),
    Column("entry", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("yanked", Boolean, nullable=False),
    Column("yank_reason", Text, nullable=False),
    # Not (model_id, version): 1.0.0 and 1.0.0+b1 have no order between them, so only one of them can be there.
    UniqueConstraint("model_id", "sort_key"),
)
RELEASES = not_(version.c.prerelease) & not_(version.c.yanked)
# What `latest` and every range without pre-releases ask: one seek, however many candidates lie above.
Index(
    "ix_version_release",
    version.c.model_id,
    version.c.sort_key,
    sqlite_where=RELEASES,
    postgresql_where=RELEASES,
)
# What `newest` asks: the order of publishing is the order of ids, which a clock cannot disturb.
Index(
    "ix_version_newest",
    version.c.model_id,
    version.c.id,
    sqlite_where=not_(version.c.yanked),
    postgresql_where=not_(version.c.yanked),
)

file = Table(
    "file",
    TABLES,
    Column("version_id", ForeignKey("version.id"), primary_key=True),
    Column("path", Name, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
)

stage = Table(
    "stage",
    TABLES,
    Column("model_id", ForeignKey("model.id"), primary_key=True),
    Column("name", Name, primary_key=True),
    Column("version_id", ForeignKey("version.id"), nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)

change = Table(
    "change",
    TABLES,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("model_id", ForeignKey("model.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("before_id", ForeignKey("version.id")),
    Column("after_id", ForeignKey("version.id"), nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("content", Text, nullable=False),
    # Without a default, so that no older version of this package can write a line that is not sealed.
    Column("digest", Text, nullable=False),
)
Index("ix_change_model", change.c.model_id, change.c.id)

listener = Table(
    "listener",
    TABLES,
    Column("name", Name, primary_key=True),
    Column("url", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
)
