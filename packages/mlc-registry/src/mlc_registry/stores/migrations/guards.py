"""Triggers that refuse to change what is to stay, in the words of each database."""

from alembic import op

__all__ = ["add_guard", "drop_guard", "prepare_guards"]

FUNCTION = """
CREATE FUNCTION mlc_registry_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END
$$
"""
SQLITE = "CREATE TRIGGER {name} BEFORE {what} ON {table} BEGIN SELECT RAISE(ABORT, '{why}'); END"
# For each statement, or TRUNCATE would pass; a statement that changes nothing is refused as well.
POSTGRESQL = """
CREATE TRIGGER {name} BEFORE {what} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION mlc_registry_refuse('{why}')
"""

SQLITE_ROW = "CREATE TRIGGER {name} BEFORE {what} ON {table} WHEN {case} BEGIN SELECT RAISE(ABORT, '{why}'); END"
POSTGRESQL_ROW = """
CREATE TRIGGER {name} BEFORE {what} ON {table} FOR EACH ROW WHEN ({case})
EXECUTE FUNCTION mlc_registry_refuse('{why}')
"""


def prepare_guards() -> None:
    """Make what `add_guard` needs, once."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(FUNCTION)


def drop_guard(name: str, table: str) -> None:
    """Let the database allow again what the guard *name* on *table* refused."""
    on_table = "" if op.get_bind().dialect.name == "sqlite" else f" ON {table}"
    op.execute(f"DROP TRIGGER {name}{on_table}")


def add_guard(name: str, table: str, what: str, why: str, *, case: str | None = None) -> None:
    """Let the database refuse *what*, as in "UPDATE", on *table*; with *case*, only of a row for which that holds."""
    if case is not None:
        text = SQLITE_ROW if op.get_bind().dialect.name == "sqlite" else POSTGRESQL_ROW
        op.execute(text.format(name=name, table=table, what=what, why=why, case=case))
    elif op.get_bind().dialect.name == "sqlite":
        op.execute(SQLITE.format(name=name, table=table, what=what, why=why))
    else:
        op.execute(
            POSTGRESQL.format(name=name, table=table, what=what.replace("DELETE", "DELETE OR TRUNCATE"), why=why)
        )
