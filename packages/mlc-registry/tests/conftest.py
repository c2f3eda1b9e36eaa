"""A registry, something to publish, and the `mlc` command."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import uuid
from pathlib import Path

import attrs
import pytest

from mlc_registry import ModelRegistry


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Nothing that the developer has set decides a test."""
    for name in ("MLC_REGISTRY", "MLC_REGISTRY_ARTIFACTS", "MLC_OUTBOX_SECRET", "MLC_PLUGINS", "MLC_PLUGINS_STRICT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def root(tmp_path):
    """Where the registry is, or will be."""
    return tmp_path / "registry"


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory):
    """A registry that is made once, as making one loads Alembic; to be copied."""
    place = tmp_path_factory.mktemp("empty") / "registry"
    ModelRegistry(place).close()
    return place


@pytest.fixture
def registry(root, empty_registry):
    """An empty registry."""
    shutil.copytree(empty_registry, root)
    with ModelRegistry(root) as opened:
        yield opened


@attrs.frozen
class Place:
    """Where a registry is: what `ModelRegistry` is opened with."""

    root: str
    artifacts: Path

    def open(self, **options):
        """Open it."""
        return ModelRegistry(self.root, artifacts=self.artifacts, **options)

    @property
    def is_sqlite(self):
        """Whether it is a file."""
        return "://" not in self.root

    @contextlib.contextmanager
    def behind(self):
        """Open the database behind the registry's back."""
        import sqlalchemy

        url = self.root.replace("postgresql:", "postgresql+psycopg:")
        url = f"sqlite:///{self.root}/registry.db" if self.is_sqlite else url
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            yield connection

    def tamper(self, *statements):
        """Run *statements* without the triggers that would refuse them."""
        with self.behind() as connection:
            if self.is_sqlite:
                dropped = "SELECT 'DROP TRIGGER ' || name FROM sqlite_master WHERE type = 'trigger'"
                for (drop,) in connection.exec_driver_sql(dropped).fetchall():
                    connection.exec_driver_sql(drop)
            else:
                connection.exec_driver_sql("SET session_replication_role = replica")
            for statement in statements:
                connection.exec_driver_sql(statement)


def _find_programs():
    """Return the directory of PostgreSQL's programs, or None."""
    for place in [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), shutil.which("initdb")]:
        if place is not None:
            folder = Path(place).resolve()
            folder = folder.parent if folder.is_file() else folder
            if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
                return folder
    return None


@pytest.fixture(scope="session")
def postgresql_server():
    """A PostgreSQL of our own, reached by a socket; a function that makes URLs of its databases.

    It sorts as English does, so that what has to be sorted by bytes says so.
    """
    programs = _find_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL here: no initdb and pg_ctl in the path or in /usr/lib/postgresql")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed, which mlc-registry[postgresql] brings")
    folder = Path(tempfile.mkdtemp(prefix="mlc-pg-"))
    as_user = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def run(program, *arguments):
        command = [*as_user, str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)

    # The processes that tests kill are clients: what the server holds needs no disk.
    settings = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c max_connections=60"
    try:
        run("initdb", "-A", "trust", "-U", "mlc", "-E", "UTF8", "--locale-provider=icu", "--icu-locale=en", "--no-sync")
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", settings, "start")
        yield lambda name: f"postgresql://mlc@/{name}?host={folder}"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # it was never started
            run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server, tmp_path_factory):
    """A database with an empty registry that is made once, to be copied; a function that runs a statement."""
    import psycopg

    def run(statement):
        with psycopg.connect(postgresql_server("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    run("CREATE DATABASE filled TEMPLATE template0 STRATEGY file_copy")
    ModelRegistry(postgresql_server("filled"), artifacts=tmp_path_factory.mktemp("none")).close()
    return run


@pytest.fixture
def make_database(postgresql_server, postgresql_template):
    """Make databases on the server; return the URL of a new one, with an empty registry unless it is to be bare."""
    made = []

    def make(*, bare=False):
        made.append(f"test_{uuid.uuid4().hex}")
        template = "template0" if bare else "filled"
        postgresql_template(f"CREATE DATABASE {made[-1]} TEMPLATE {template} STRATEGY file_copy")
        return postgresql_server(made[-1])

    yield make
    for name in made:
        postgresql_template(f"DROP DATABASE {name} WITH (FORCE)")


def make_place(kind, request, *, bare=False):
    """Return a new place on a database of that *kind*."""
    folder = request.getfixturevalue("tmp_path")
    if kind == "postgresql":
        return Place(request.getfixturevalue("make_database")(bare=bare), folder / "artifacts")
    if not bare:
        shutil.copytree(request.getfixturevalue("empty_registry"), folder / "registry")
    return Place(str(folder / "registry"), folder / "registry" / "artifacts")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request):
    """An empty registry on each database."""
    return make_place(request.param, request)


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_place(request):
    """A place for a registry on each database, which is not made yet."""
    return make_place(request.param, request, bare=True)


@pytest.fixture
def new_place(request, tmp_path):
    """Return further places for registries that are not made yet, on a database of the kind that is asked for."""
    count = itertools.count()

    def make(kind):
        folder = tmp_path / f"place-{next(count)}"
        if kind == "postgresql":
            return Place(request.getfixturevalue("make_database")(bare=True), folder / "artifacts")
        return Place(str(folder), folder / "artifacts")

    return make


@pytest.fixture
def weights(tmp_path):
    """Make a file with some content and return its path."""

    def make(content="weights", name="model.bin"):
        path = tmp_path / "made" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return path

    return make


@pytest.fixture
def checkpoint(tmp_path):
    """A directory as training leaves it: a manifest, weights, and a folder."""
    path = tmp_path / "checkpoints" / "net" / "epoch_9"
    (path / "more").mkdir(parents=True)
    (path / "manifest.json").write_text(json.dumps({"format": "mlc-checkpoint/1", "name": "epoch_9"}))
    (path / "model.safetensors").write_bytes(bytes(range(256)))
    (path / "more" / "state.json").write_text("{}")
    return path


@pytest.fixture
def publish(registry, weights):
    """Publish versions, each with content of its own."""

    def publish(*texts, name="net", **options):
        return [registry.register_model(name, text, weights(f"{name} {text}"), **options) for text in texts]

    return publish


@pytest.fixture
def mlc(capsys):
    """Run `mlc` in this process; return the exit status, what it printed, and what it complained about."""
    from mlc_hooks.cli import main

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(one) for one in arguments])
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def run_python():
    """Run code in a process of its own, with warnings as errors; return what it printed."""

    def run(code, *arguments):
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)]
        process = subprocess.run(command, check=False, capture_output=True, text=True)
        assert 0 == process.returncode, process.stderr
        return process.stdout

    return run
