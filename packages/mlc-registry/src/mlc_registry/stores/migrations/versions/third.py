"""Listeners, and how much of the history each has heard."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make their table."""
    op.create_table(
        "listener",
        sa.Column("name", NAME, primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
