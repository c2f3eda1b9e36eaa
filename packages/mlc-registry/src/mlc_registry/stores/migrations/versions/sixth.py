"""Searches find the metrics that metadata state, too, as gates compare them."""

import orjson
import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
METRIC = sa.table("metric", sa.column("version_id", ID), sa.column("name", sa.Text), sa.column("value", sa.Double))
STATED = sa.text("""SELECT id, metadata FROM version WHERE metadata LIKE '%"metrics"%' ORDER BY id""")
THERE = sa.select(METRIC.c.name).where(METRIC.c.version_id == sa.bindparam("id"))


def upgrade() -> None:
    """Write those that are not there, of the versions that were published before."""
    from mlc_registry.metrics import list_metrics  # of today: what is found depends on it, and nothing is lost by it

    connection = op.get_bind()
    for number, metadata in connection.execute(STATED).all():
        there = set(connection.execute(THERE, {"id": number}).scalars())
        found = list_metrics(orjson.loads(metadata), {})
        rows = [
            {"version_id": number, "name": name, "value": value} for name, value in found.items() if name not in there
        ]
        if rows:
            connection.execute(sa.insert(METRIC), rows)
