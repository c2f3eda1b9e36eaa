"""What tells a registry from every other, from a copy of its content too."""

import secrets

import sqlalchemy as sa
from alembic import op

from mlc_registry.stores.migrations.guards import add_guard

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make its table. What is there already keeps the name by which its files and directories know it."""
    made = op.create_table("identity", sa.Column("token", sa.Text, primary_key=True))
    first = op.get_bind().execute(sa.text("SELECT digest FROM change ORDER BY id LIMIT 1")).scalar()
    token = secrets.token_hex(32) if first is None else str(first).partition(":")[2]
    op.get_bind().execute(sa.insert(made), {"token": token})
    add_guard("identity_is_kept", "identity", "DELETE", "no registry becomes another")
    add_guard("identity_is_fixed", "identity", "UPDATE", "no registry becomes another")
