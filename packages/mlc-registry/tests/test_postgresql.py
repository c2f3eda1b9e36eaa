"""PostgreSQL: what only the database can promise, and what happens when it is not there."""

import subprocess
import sys
import threading
import time

import pytest

from mlc_registry import ModelRegistry, RegistryNotFoundError, StoreError
from mlc_registry.catalogs import open_store


@pytest.fixture
def url(make_database):
    """The address of an empty registry."""
    return make_database()


@pytest.fixture
def registry(url, tmp_path):
    """A registry on the server."""
    with ModelRegistry(url, artifacts=tmp_path / "artifacts") as opened:
        yield opened


@pytest.fixture
def database(registry, publish, url):
    """The database of a registry with two versions and a stage, opened behind its back."""
    import psycopg

    publish("1.0.0", "1.1.0")
    registry.promote("net", "1.0.0", "production")
    with psycopg.connect(url) as connection:
        yield connection


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE version SET digest = 'sha256:other'",
        "UPDATE version SET version = '9.0.0', sort_key = '\\x00'",
        "UPDATE version SET metadata = '{}', directory = 'elsewhere'",
        "DELETE FROM version",
        "UPDATE file SET digest = 'sha256:other'",
        "DELETE FROM file",
        "UPDATE change SET actor = 'nobody'",
        "DELETE FROM change",
        "TRUNCATE change",
        "TRUNCATE model CASCADE",
        "UPDATE model SET name = 'other'",
        "DELETE FROM model",
    ],
)
def test_published_facts_cannot_be_changed(database, statement):
    """Not by us, not by anybody with a SQL prompt."""
    import psycopg

    with pytest.raises(psycopg.IntegrityError, match="ever"):
        database.execute(statement)


def test_uniqueness_is_the_databases_decision(database):
    """A second version of equal precedence cannot be written, whoever writes it."""
    import psycopg

    columns = (
        "model_id, version, sort_key, prerelease, digest, size, directory, entry, metadata, description, created_at, "
        "created_by, yanked, yank_reason"
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute(f"INSERT INTO version (id, {columns}) SELECT 99, {columns} FROM version")


def test_database_is_as_the_statements_see_it(url):
    """What migrations make and what statements believe is the same."""
    import sqlalchemy
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from mlc_registry.stores.tables import REVISION_TABLE, TABLES

    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": REVISION_TABLE, "compare_type": True})
        assert [] == compare_metadata(context, TABLES)
    engine.dispose()


def test_questions_are_seeks(database, registry):
    """Ranges, `latest`, `newest` and exact versions use an index each."""
    from mlc_registry.stores import queries
    from mlc_registry.stores.prepared import prepare

    database.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off")
    values = {"model": "net", "key": b"", "low": b"", "high": b"\xff", "stage": "production"}
    plans = {}
    for name, question in [("VERSION", queries.VERSION), ("NEWEST", queries.NEWEST), *queries.WITHIN.items()]:
        prepared = prepare(question, registry._backend.store._engine)
        rows = database.execute(f"EXPLAIN {prepared.text}", prepared.bind(values)).fetchall()
        plans[name] = "\n".join(row[0] for row in rows)

    assert "ix_version_release" in plans[False, False]
    assert "ix_version_newest" in plans["NEWEST"]
    for plan in plans.values():
        assert "Seq Scan" not in plan


def test_names_sort_by_their_bytes(registry, publish):
    """Whatever language the server speaks: as in SQLite."""
    for name in ("Zebra", "apple", "a-b", "aa"):
        publish("1.0.0", name=name)

    assert ["Zebra", "a-b", "aa", "apple"] == [one.name for one in registry.list_models()]


def test_lost_connection_is_an_error_and_the_next_question_opens_another(registry, database, capfd):
    """No restart of anything, and nothing on standard error."""
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mlc-registry'")
    database.commit()
    with pytest.raises(StoreError, match="the database postgresql"):
        registry.resolve("net")

    assert "1.1.0" == str(registry.resolve("net").version)
    assert ("", "") == capfd.readouterr()


def test_writer_that_waits_too_long_says_so(registry, database, url, tmp_path, monkeypatch):
    """And changes nothing."""
    from mlc_registry.stores import postgresql

    monkeypatch.setattr(postgresql, "PATIENCE", 0.05)
    database.execute(postgresql.LOCK)
    with pytest.raises(StoreError, match="lock timeout"):
        registry.yank("net", "1.0.0", "bad")
    assert "1.1.0" == str(registry.resolve("net").version)  # who asks does not wait
    database.rollback()

    assert not registry.get("net", "1.0.0").yanked


def test_commits_are_durable_whatever_the_server_thinks(registry, database, publish):
    """A default that loses commits, or that reads what was there when the transaction began, is not ours."""
    name = database.execute("SELECT current_database()").fetchone()[0]
    database.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    database.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    database.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    database.commit()
    with registry._backend.store._transaction() as connection:
        asked = "SELECT current_setting('synchronous_commit') || ' ' || current_setting('transaction_isolation')"
        assert "on read committed" == connection.exec_driver_sql(asked).scalar()
    publish("1.2.0")

    assert "1.2.0" == str(registry.resolve("net").version)


def test_newer_database_is_refused(database, url, tmp_path):
    """Rather than read by rules that it may not follow."""
    database.execute("UPDATE mlc_registry_revision SET version_num = '9999'")
    database.commit()

    with pytest.raises(StoreError, match=r"written by a newer mlc-registry \(revision 9999\)"):
        ModelRegistry(url, artifacts=tmp_path)


def test_looking_makes_nothing(make_database):
    """Without `create`, a database without a registry stays as it is."""
    url = make_database(bare=True)

    with pytest.raises(RegistryNotFoundError, match="there is no registry in postgresql"):
        open_store(url, create=False)
    open_store(url, create=True).close()
    open_store(url, create=False).close()


def test_makers_take_turns(make_database):
    """Whoever waits finds it made."""
    url = make_database(bare=True)
    made = []
    makers = [threading.Thread(target=lambda: made.append(open_store(url, create=True))) for _ in range(4)]
    for one in makers:
        one.start()
    for one in makers:
        one.join()

    assert 4 == len(made)
    for one in made:
        assert () == one.list_models()
        one.close()


def test_schema_of_the_search_path_holds_the_registry(make_database, tmp_path, weights):
    """So that several can share a database, with each other and with anybody else."""
    import psycopg

    url = make_database(bare=True)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE model (theirs integer)")
    for schema in ("one", "two"):
        place = f"{url}&options=-csearch_path%3D{schema}"
        with ModelRegistry(place, artifacts=tmp_path / schema) as registry:
            registry.register_model(schema, "1.0.0", weights())
            assert [schema] == [one.name for one in registry.list_models()]


def test_server_that_is_away_is_an_error_without_a_password(tmp_path):
    """Also without a password in the query, and where it cannot be parsed."""
    for url in (
        "postgresql://ann:se%40cret@127.0.0.1:1/models",
        "postgresql://ann@127.0.0.1:1/models?password=se%40cret",
        "postgresql://ann:se@cret/x@127.0.0.1:1/",
        "postgresql://ann:secret@127.0.0.1:port/models",
        "postgresql://ann:secret@127.0.0.1",
    ):
        with pytest.raises(StoreError) as caught:
            ModelRegistry(url, artifacts=tmp_path)
        shown = str(caught.value)
        assert "postgresql" in shown
        assert "cret" not in shown


def test_registry_does_not_show_its_password(url, tmp_path):
    """In what it is shown as, and in the error that asks for a place for files."""
    secret = url.replace("mlc@", "mlc:secret@")
    with ModelRegistry(secret, artifacts=tmp_path) as registry:
        assert "secret" not in repr(registry)
        assert "postgresql://mlc:***@/" in repr(registry)
    with pytest.raises(StoreError, match="artifacts=DIRECTORY") as caught:
        ModelRegistry(secret)
    assert "secret" not in str(caught.value)


def test_missing_driver_names_the_extra(tmp_path, monkeypatch):
    """And what to type."""
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(StoreError, match=r"pip install \"mlc-registry\[postgresql\]\""):
        ModelRegistry("postgresql://ann@127.0.0.1/models", artifacts=tmp_path)


def test_commands_take_the_url(mlc, url, tmp_path, monkeypatch):
    """With a directory for the files, by option or environment."""
    secret = url.replace("mlc@", "mlc:secret@")
    monkeypatch.setenv("MLC_REGISTRY", secret)
    status, _, err = mlc("registry", "register", "net", "1.0.0", __file__)
    assert 1 == status
    assert "--artifacts" in err
    assert 0 == mlc("registry", "register", "net", "1.0.0", __file__, "--artifacts", tmp_path / "files")[0]
    monkeypatch.setenv("MLC_REGISTRY_ARTIFACTS", str(tmp_path / "files"))
    status, out, _ = mlc("registry", "resolve", "net", "--path")

    assert (0, f"{tmp_path}/files/net/1.0.0/test_postgresql.py\n") == (status, out)
    assert "secret" not in mlc("registry", "ls")[1]


def test_forked_process_asks_on_its_own(url, tmp_path, weights, run_python):
    """The parent's connection is left alone, and both go on."""
    printed = run_python(
        """
        import os, sys
        from mlc_registry import ModelRegistry
        registry = ModelRegistry(sys.argv[1], artifacts=sys.argv[2])
        registry.register_model("net", "1.0.0", sys.argv[3])
        print(registry.resolve("net").version, flush=True)
        child = os.fork()
        if not child:
            registry.register_model("net", "1.1.0", sys.argv[3])
            print(registry.resolve("net").version, flush=True)
            registry.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(registry.resolve("net").version)
        registry.close()
        """,
        url,
        tmp_path / "artifacts",
        weights(),
    )

    assert ["1.0.0", "1.1.0", "1.1.0"] == printed.split()


def test_writer_that_is_killed_lets_go_at_once(url, tmp_path, registry, publish):
    """Its lock goes with its connection."""
    publish("1.0.0")
    code = """
import sys, time
from mlc_registry.catalogs import open_store
with open_store(sys.argv[1], create=False)._transaction():
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True) as holder:
        assert "held\n" == holder.stdout.readline()
        holder.kill()
    begun = time.monotonic()
    publish("1.1.0")

    assert time.monotonic() - begun < 10
