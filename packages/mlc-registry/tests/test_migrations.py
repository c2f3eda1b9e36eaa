"""From every schema that was ever released to that of today, with nothing lost."""

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mlc_registry import RegistryNotFoundError, Version
from mlc_registry.stores.tables import HEAD

FIRST = Path(__file__).parent / "data" / "registry_0001.sql"
HEAD_OF_FIRST = "sha256:c2f07f3540cfceac191554ac27295452a84e0b589fdfd1b96a5609242d21cde2"
TABLES = ("model", "version", "file", "stage", "change")


@pytest.fixture
def old_place(bare_place):
    """A registry as revision 0001 left it: two models, three versions, nine lines of history."""
    if bare_place.is_sqlite:
        Path(bare_place.root).mkdir()
        with contextlib.closing(sqlite3.connect(f"{bare_place.root}/registry.db")) as connection:
            connection.executescript(FIRST.read_text())
    else:
        _fill(bare_place)
    return bare_place


def _fill(place):
    """Make the first revision's tables, and copy the rows of SQLite's."""
    import sqlalchemy

    from mlc_registry.stores.schema import upgrade

    source = sqlite3.connect(":memory:")
    source.row_factory = sqlite3.Row
    source.executescript(FIRST.read_text())
    with place.behind() as connection:
        upgrade(connection, "0001")
        found = sqlalchemy.MetaData()
        found.reflect(connection)
        for name in TABLES:
            rows = [dict(row) for row in source.execute(f"SELECT * FROM {name} ORDER BY 1")]
            for row in rows:
                row.update({key: bool(row[key]) for key in ("prerelease", "yanked") if key in row})
            connection.execute(found.tables[name].insert(), rows)
    source.close()


def test_history_of_the_first_revision_is_sealed(old_place):
    """Opening takes the steps; every fact is as it was, every line fits, and life goes on."""
    with old_place.open(create=False) as registry:
        found = registry.audit.verify()
        assert (9, 3) == (found.lines, found.versions)
        history = registry.history("net")
        kinds = ["registered", "registered", "promoted", "promoted", "rolled back", "yanked"]
        assert kinds == [one.kind for one in history]
        assert 'First: ünï\n"quoted"' == history[0].reason
        assert {"dice": 0.9} == registry.get("net", "1.0.0").metadata
        assert ["cat"] == [one.model for one in registry.search("cat").versions]
        registry.promote("cat", "2.0.0-rc.1", "staging")
        assert 10 == registry.audit.verify(expected_head=found.head).lines
    with old_place.behind() as connection:
        assert HEAD == connection.exec_driver_sql("SELECT version_num FROM mlc_registry_revision").scalar()


def test_both_databases_seal_alike(old_place):
    """The same rows have the same head, wherever they are and whoever takes the steps."""
    with old_place.open(create=False) as registry:
        assert HEAD_OF_FIRST == registry.audit.head


def test_triggers_still_refuse(old_place):
    """Those of the table that was written anew, too, and those of what came later."""
    import sqlalchemy.exc

    with old_place.open() as registry:
        registry._backend.store.statements.remove("net", Version.parse("1.1.0"), actor="ann", reason="old")
    for statement in (
        "UPDATE change SET actor = 'nobody'",
        "DELETE FROM change",
        "DELETE FROM version",
        "UPDATE version SET facts = '{}'",
        "UPDATE version SET removed = NOT removed WHERE removed",
        "UPDATE version SET yanked = NOT yanked WHERE removed",
    ):
        with pytest.raises(sqlalchemy.exc.IntegrityError, match="ever"), old_place.behind() as connection:
            connection.exec_driver_sql(statement)


# Of an index on an expression, in SQLite; test_sqlite compares it as text.
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection", "ignore:autogenerate skipping")
def test_schema_is_the_same_as_that_of_a_new_registry(old_place):
    """Not only a similar one: nothing is left of the steps."""
    import sqlalchemy
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from mlc_registry.stores.tables import REVISION_TABLE
    from mlc_registry.stores.tables import TABLES as SEEN

    old_place.open().close()
    with old_place.behind() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": REVISION_TABLE, "compare_type": True})
        assert [] == compare_metadata(context, SEEN)
        names = sqlalchemy.inspect(connection).get_table_names()
    assert [] == [name for name in names if "0001" in name]


def test_old_registry_is_not_there_until_it_is(bare_place):
    """A database without tables is none."""
    with pytest.raises(RegistryNotFoundError):
        bare_place.open(create=False)


@pytest.mark.slow
def test_many_open_an_old_registry_at_once(old_place):
    """One takes the steps, and the others wait."""
    code = """
import sys
from mlc_registry import ModelRegistry
sys.stdin.readline()
with ModelRegistry(sys.argv[1], artifacts=sys.argv[2]) as registry:
    print(registry.audit.verify().head)
"""
    command = [sys.executable, "-W", "error", "-c", code, old_place.root, str(old_place.artifacts)]
    openers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    heads = {one.communicate("go\n", timeout=60)[0] for one in openers}

    assert [0] * 4 == [one.returncode for one in openers]
    assert 1 == len(heads)
