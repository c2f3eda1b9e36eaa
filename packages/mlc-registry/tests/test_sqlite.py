"""SQLite: what only the database can promise."""

import contextlib
import fcntl
import gc
import os
import re
import shutil
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

import pytest

from mlc_registry import (
    CorruptArtifactError,
    InvalidMetadataError,
    InvalidVersionError,
    ModelRegistry,
    RegistryNotFoundError,
    StoreError,
)

COLUMNS = (
    "model_id, version, sort_key, prerelease, digest, size, directory, entry, metadata, description, created_at, "
    "created_by, yanked, yank_reason, facts"
)


@pytest.fixture
def database(registry, publish, root):
    """The file of a registry with two versions and a stage, opened behind its back."""
    publish("1.0.0", "1.1.0")
    registry.promote("net", "1.0.0", "production")
    connection = sqlite3.connect(root / "registry.db")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE version SET digest = 'sha256:other'",
        "UPDATE version SET version = '9.0.0', sort_key = x'00'",
        "UPDATE version SET metadata = '{}', directory = 'elsewhere'",
        "UPDATE version SET facts = '{}'",
        "DELETE FROM version",
        "UPDATE file SET digest = 'sha256:other'",
        "DELETE FROM file",
        "UPDATE change SET actor = 'nobody'",
        "DELETE FROM change",
        "UPDATE model SET name = 'other'",
        "DELETE FROM model",
    ],
)
def test_published_facts_cannot_be_changed(database, statement):
    """Not by us, not by anybody with a SQL prompt."""
    with pytest.raises(sqlite3.IntegrityError, match="ever"):
        database.execute(statement)


@pytest.mark.parametrize(
    ("column", "value", "error"),
    [
        ("directory", "'../../etc'", CorruptArtifactError),
        ("directory", "'/etc'", CorruptArtifactError),
        ("entry", "'../../../etc/passwd'", CorruptArtifactError),
        ("entry", "'/etc/passwd'", CorruptArtifactError),
        ("metadata", "'{'", InvalidMetadataError),
        ("facts", "'{'", InvalidMetadataError),
        ("facts", "'[]'", InvalidMetadataError),
        ("facts", """'{"tracking": {"colour": 1}}'""", InvalidMetadataError),
        ("facts", """'{"parent": {"model": "net", "version": "1.x", "digest": ""}}'""", InvalidMetadataError),
        ("version", "'1.x'", InvalidVersionError),
    ],
)
def test_hostile_rows_are_refused(database, registry, column, value, error):
    """A registry from somewhere else does not lead outside of itself, nor end in an error without a type."""
    changed = COLUMNS.replace(column, value).replace("sort_key", "x'01020102010200ff'")
    database.execute(f"INSERT INTO version ({COLUMNS}) SELECT {changed} FROM version WHERE version = '1.0.0'")
    database.commit()

    with pytest.raises(error):
        registry.resolve("net", ">1.1")


@pytest.mark.parametrize("path", ["../../1.1.0/model.bin", "/etc/passwd"])
def test_hostile_files_are_refused(database, registry, path):
    """Not even to be hashed."""
    database.execute(f"INSERT INTO file SELECT version_id, '{path}', size, digest FROM file WHERE version_id = 1")
    database.commit()

    with pytest.raises(CorruptArtifactError, match="outside of the registry"):
        registry.verify("net", "1.0.0")


def test_uniqueness_is_the_databases_decision(database):
    """A second version of equal precedence cannot be written, whoever writes it."""
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        database.execute(f"INSERT INTO version ({COLUMNS}) SELECT {COLUMNS} FROM version WHERE version = '1.0.0'")


def test_questions_are_seeks(registry, publish):
    """Ranges, `latest`, `newest` and exact versions use an index each, whatever lies beside what they find."""
    from mlc_registry.stores import queries

    publish("1.0.0")
    reader = registry._backend.store._reader
    plans = {}
    for name in ("VERSION", "NEWEST", "STAGED"):
        plans[name] = _plan(reader, getattr(queries, name))
    for (prereleases, yanked), question in queries.WITHIN.items():
        plans[prereleases, yanked] = _plan(reader, question)

    assert "ix_version_release" in plans[False, False]
    assert "ix_version_newest" in plans["NEWEST"]
    for plan in plans.values():
        assert "SCAN" not in plan
        assert "TEMP B-TREE" not in plan


def _plan(reader, question):
    from mlc_registry.stores.prepared import prepare

    prepared = prepare(question, reader._engine)
    values = prepared.bind({"model": "net", "key": b"", "low": b"", "high": b"\xff", "stage": "production"})
    with reader._lock:
        rows = reader._held.take().connection.cursor().execute(f"EXPLAIN QUERY PLAN {prepared.text}", values).fetchall()
    return "\n".join(row[3] for row in rows)


def test_database_is_as_the_statements_see_it(database, tmp_path):
    """What migrations make and what statements believe is the same, to the last index."""
    import sqlalchemy

    from mlc_registry.stores.tables import REVISION_TABLE, TABLES

    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/fresh.db")
    TABLES.create_all(engine)
    engine.dispose()
    with contextlib.closing(sqlite3.connect(tmp_path / "fresh.db")) as fresh:
        expected = _schema(fresh)
    found = _schema(database)
    del found[REVISION_TABLE]

    assert expected == found


def _schema(connection):
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL"
    )
    found = {name: re.split(r"\n|, (?=facts|removed)", sql) for name, sql in rows}  # added columns share a line
    return {name: sorted(line.strip(" \t,)") for line in lines) for name, lines in found.items()}


def test_writes_are_durable_and_readers_do_not_wait(database, registry, root):
    """A write-ahead log, synced at each commit; a reader answers while a writer is at work."""
    assert ("wal",) == database.execute("PRAGMA journal_mode").fetchone()
    database.execute("BEGIN IMMEDIATE")

    assert "1.1.0" == str(registry.resolve("net").version)
    database.rollback()
    with registry._backend.store._engine.connect() as connection:
        assert 2 == connection.exec_driver_sql("PRAGMA synchronous").scalar()
        assert 1 == connection.exec_driver_sql("PRAGMA foreign_keys").scalar()


def test_writer_that_waits_too_long_says_so(database, publish, registry, monkeypatch):
    """And publishes nothing."""
    from mlc_registry.stores import sqlite

    monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
    database.execute("BEGIN IMMEDIATE")
    with (
        ModelRegistry(registry._backend.store.home) as impatient,
        pytest.raises(StoreError, match=r"registry\.db failed: database is locked"),
    ):
        impatient.yank("net", "1.0.0", "bad")
    database.rollback()

    assert not registry.get("net", "1.0.0").yanked


def test_opening_again_is_light(registry, root, run_python):
    """A database of today costs no Alembic, and importing costs no SQLAlchemy."""
    printed = run_python(
        """
        import sys
        import mlc_registry, mlc_registry.hooks, mlc_registry.testing
        print([name for name in ("sqlalchemy", "alembic", "torch", "mlc_core", "rich") if name in sys.modules])
        with mlc_registry.ModelRegistry(sys.argv[1]) as registry:
            registry.list_models()
        print([name for name in ("alembic", "torch", "mlc_core", "rich") if name in sys.modules])
        """,
        root,
    )

    assert ["[]", "[]"] == printed.split()


def test_maker_waits_for_another(tmp_path, monkeypatch):
    """Two may make the same registry at once, and one of them is at it; who waits too long is told so."""
    from mlc_registry.stores import sqlite

    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        maker = threading.Thread(target=lambda: ModelRegistry(tmp_path).close())
        maker.start()
        time.sleep(0.1)
        assert [] == list(tmp_path.iterdir())
        fcntl.flock(handle, fcntl.LOCK_UN)
        maker.join()
        assert (tmp_path / "registry.db").exists()

        (tmp_path / "registry.db").unlink()
        monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="somebody else has been making a registry"):
            ModelRegistry(tmp_path)
    finally:
        os.close(handle)


def test_newer_database_is_refused(database, registry, root):
    """Rather than read by rules that it may not follow."""
    database.execute("UPDATE mlc_registry_revision SET version_num = '9999'")
    database.commit()

    with pytest.raises(StoreError, match=r"written by a newer mlc-registry \(revision 9999\)"):
        ModelRegistry(root)


def test_registry_is_made_at_a_place_of_any_name(tmp_path, weights):
    """Also one that no URL could hold, with directories that are not there."""
    place = tmp_path / "not there" / "a registry? #1 100%"
    with ModelRegistry(place) as registry:
        registry.register_model("net", "1.0.0", weights())

    assert ["artifacts", "models", "registry.db"] == sorted(one.name for one in place.iterdir() if "-" not in one.name)


def test_what_is_no_database_is_refused(tmp_path):
    """By name."""
    (tmp_path / "registry.db").write_text("this is not a database, whatever its name may say" * 100)

    with pytest.raises(StoreError, match=r"registry\.db failed: file is not a database"):
        ModelRegistry(tmp_path)


def test_looking_makes_nothing(tmp_path):
    """Without `create`, a registry that is not there stays away."""
    with pytest.raises(RegistryNotFoundError, match="there is no registry in"):
        ModelRegistry(tmp_path / "registry", create=False)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///x.db?mode=ro",
        "sqlite://host/x.db",
        "sqlite://h:port/x.db",
    ],
)
def test_url_must_name_a_file(url):
    """A registry that is gone with the process is none."""
    with pytest.raises(StoreError, match=r"sqlite:///registry\.db"):
        ModelRegistry(url)


def test_url_and_directory_are_the_same_registry(registry, publish, root, monkeypatch):
    """Two spellings, absolute or not."""
    publish("1.0.0")
    monkeypatch.chdir(root)
    for url in (f"sqlite:///{root}/registry.db", "sqlite:///registry.db"):
        with ModelRegistry(url) as same:
            assert registry.get_model_path("net") == same.get_model_path("net")


def test_threads_share_a_registry(registry, publish):
    """They take turns."""
    publish("1.0.0", "1.1.0")
    found = []

    def ask():
        found.extend(str(registry.resolve("net", "^1").version) for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert ["1.1.0"] * 200 == found


def test_forked_process_asks_on_its_own(root, weights, run_python):
    """As loaders of data do; the parent's connection is left alone, and both go on."""
    printed = run_python(
        """
        import os, sys
        from mlc_registry import ModelRegistry
        registry = ModelRegistry(sys.argv[1])
        registry.register_model("net", "1.0.0", sys.argv[2])
        print(registry.resolve("net").version, flush=True)
        child = os.fork()
        if not child:
            registry.register_model("net", "1.1.0", sys.argv[2])
            print(registry.resolve("net").version, flush=True)
            registry.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(registry.resolve("net").version)
        registry.close()
        """,
        root,
        weights(),
    )

    assert ["1.0.0", "1.1.0", "1.1.0"] == printed.split()


def test_registry_that_is_forgotten_lets_go(root, weights):
    """Nobody has to close it; warnings, of which an open connection is one, are errors here."""
    registry = ModelRegistry(root)
    registry.register_model("net", "1.0.0", weights())
    del registry
    gc.collect()

    opened = [str(one.resolve()) for one in Path("/proc/self/fd").iterdir()]
    assert [] == [one for one in opened if one.startswith(str(root))]


def test_question_after_a_failure_is_answered(registry, publish, monkeypatch):
    """A connection that failed is replaced."""
    publish("1.0.0")
    registry._backend.store._reader._held.take().connection.dbapi_connection.close()
    with pytest.raises(StoreError, match="closed database"):
        registry.resolve("net")

    assert "1.0.0" == str(registry.resolve("net").version)


@pytest.fixture
def read_only(registry, publish, root):
    """Another's registry, with all that is needed to read it and nothing to write; make it ours by `chmod`."""
    publish("1.0.0", "1.1.0")
    registry.close()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "registry"
        shutil.copytree(root, place, symlinks=True)
        for one in (place, *place.rglob("*")):
            one.chmod(one.stat().st_mode & 0o555 | 0o444)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may write everywhere
            yield place
        finally:
            os.seteuid(user)
            for one in (place, *place.rglob("*")):
                one.chmod(one.stat().st_mode | 0o200)


def test_registry_that_is_read_only_is_read(read_only):
    """Although SQLite would like to write beside it; and what cannot be done has a type."""
    with ModelRegistry(read_only, create=False) as registry:
        assert ["1.1.0", "1.0.0"] == [str(one.version) for one in registry.list_versions("net")]
        assert 2 == registry.audit.verify().lines
        assert registry.search(model="net").versions
        registry.verify("net", "1.0.0")
        with pytest.raises(StoreError, match="readonly"):
            registry.yank("net", "1.0.0", "bad")


def test_reader_without_rights_sees_what_another_writes(read_only):
    """While it writes and afterwards; the reader holds on to nothing that could change."""
    user = os.geteuid()
    with ModelRegistry(read_only, create=False) as registry:
        before = registry.get("net", "1.0.0").yanked
        os.seteuid(os.getuid())
        if user == os.geteuid():
            pytest.skip("only root can be two users")
        database = sqlite3.connect(read_only / "registry.db")
        for is_closed in (False, True):
            with database:
                database.execute("UPDATE version SET yanked = NOT yanked WHERE version = '1.0.0'")
            if is_closed:
                database.close()
            os.seteuid(user)
            before = not before
            assert before == registry.get("net", "1.0.0").yanked
            os.seteuid(os.getuid())
        database.close()


def test_a_database_that_was_put_in_its_place_is_written_to(registry, publish, root, tmp_path):
    """Nothing is published into a file that is gone, although the writer's connection was held open."""
    publish("1.0.0")
    shutil.copy(root / "registry.db", tmp_path / "backup.db")
    publish("1.1.0")
    with contextlib.suppress(FileNotFoundError):
        for end in ("-wal", "-shm"):
            (root / f"registry.db{end}").unlink()
    (tmp_path / "backup.db").replace(root / "registry.db")
    publish("1.2.0")

    with ModelRegistry(root) as another:
        assert "1.2.0" in {str(one.version) for one in another.list_versions("net")}
        another.audit.verify()


def test_writer_goes_on_after_a_transaction_that_failed(registry, publish):
    """With nothing of it, in whatever thread comes next."""
    publish("1.0.0")
    store = registry._backend.store

    def write_half():
        with store._transaction() as connection:
            connection.exec_driver_sql("INSERT INTO model (id, name) VALUES (7, 'half')")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    publish("1.1.0")

    assert ["net"] == [one.name for one in registry.list_models()]
    assert 2 == registry.audit.verify().versions
