"""The tables, as statements see them; migrations make them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    func,
    not_,
    true,
)

__all__ = [
    "HEAD",
    "REVISION_TABLE",
    "TABLES",
    "change",
    "dependency",
    "file",
    "identity",
    "listener",
    "mark",
    "metric",
    "model",
    "stage",
    "tag",
    "version",
    "word",
]

HEAD = "0006"
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
    Column("facts", Text, nullable=False, server_default="{}"),
    Column("removed", Boolean, nullable=False, server_default=false()),
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
# The other half, for searches that want them too; one index over all would be taken for `newest`, and walk past them.
YANKED = version.c.yanked.is_(true())  # as text the same in an index and in a question, which SQLite compares
Index("ix_version_yanked", version.c.model_id, version.c.id, sqlite_where=YANKED, postgresql_where=YANKED)
Index("ix_version_digest", version.c.model_id, version.c.digest, version.c.sort_key)

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
Index("ix_stage_name", stage.c.name, stage.c.version_id)

change = Table(
    "change",
    TABLES,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("model_id", ForeignKey("model.id")),
    Column("kind", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("before_id", ForeignKey("version.id")),
    Column("after_id", ForeignKey("version.id")),  # empty where the line is about the registry itself
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("content", Text, nullable=False),
    Column("details", Text, nullable=False),
    # Without a default, so that no older version of this package can write a line that is not sealed.
    Column("digest", Text, nullable=False),
)
Index("ix_change_model", change.c.model_id, change.c.id)
Index("ix_change_version", change.c.after_id, change.c.id)

listener = Table(
    "listener",
    TABLES,
    Column("name", Name, primary_key=True),
    Column("url", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
)

identity = Table("identity", TABLES, Column("token", Text, primary_key=True))

tag = Table(
    "tag",
    TABLES,
    Column("version_id", ForeignKey("version.id"), primary_key=True),
    Column("key", Name, primary_key=True),
    Column("value", Name, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_tag_value", tag.c.key, tag.c.value, tag.c.version_id)
Index("ix_tag_key", tag.c.key, tag.c.version_id)

# From here on, what facts, tags and notes say once more, in the order in which searches ask for it. A condition that
# most versions meet is answered by walking down an index that ends with the version, any other by one that ends with
# the value.
mark = Table(
    "mark",
    TABLES,
    Column("kind", Name, primary_key=True),
    Column("value", Name, primary_key=True),
    Column("version_id", ForeignKey("version.id"), primary_key=True),
    sqlite_with_rowid=False,
)

metric = Table(
    "metric",
    TABLES,
    Column("version_id", ForeignKey("version.id"), primary_key=True),
    Column("name", Name, primary_key=True),
    Column("value", Double, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_metric_value", metric.c.name, metric.c.value, metric.c.version_id)
Index("ix_metric_version", metric.c.name, metric.c.version_id, metric.c.value)

word = Table(
    "word",
    TABLES,
    Column("word", Name, primary_key=True),
    Column("version_id", ForeignKey("version.id"), primary_key=True),
    sqlite_with_rowid=False,
)
Index("ix_word_version", word.c.version_id, word.c.word)

dependency = Table(
    "dependency",
    TABLES,
    Column("version_id", ForeignKey("version.id"), primary_key=True),
    Column("name", Name, primary_key=True),
    sqlite_with_rowid=False,
)
Index("ix_dependency_name", dependency.c.name, dependency.c.version_id)
