"""A registry, something to publish, and the `mlc` command."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import math
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
    for name in (
        "MLC_MIGRATIONS",
        "MLC_ALLOWED_CLASSES",
        "MLC_REGISTRY",
        "MLC_REGISTRY_ARTIFACTS",
        "MLC_REGISTRY_VIEW",
        "MLC_OUTBOX_SECRET",
        "MLC_PLUGINS",
        "MLC_PLUGINS_STRICT",
    ):
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

    def make(*, bare=False, template="filled"):
        made.append(f"test_{uuid.uuid4().hex}")
        template = "template0" if bare else template
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


@pytest.fixture(scope="session")
def templates():
    """Places of registries that were filled once, by their kind and name."""
    return {}


@pytest.fixture
def copy_place(request, templates, tmp_path_factory):
    """Return a new place on a database of a kind, with a copy of the registry that a function has filled, once."""

    def fill_once(kind, name, fill):
        folder = tmp_path_factory.mktemp(name)
        if kind == "postgresql":
            request.getfixturevalue("postgresql_template")(f"CREATE DATABASE {name} TEMPLATE filled STRATEGY file_copy")
            source = Place(request.getfixturevalue("postgresql_server")(name), folder / "artifacts")
        else:
            shutil.copytree(request.getfixturevalue("empty_registry"), folder / "registry")
            source = Place(str(folder / "registry"), folder / "registry" / "artifacts")
        with source.open() as registry:
            fill(registry, folder)
        return source

    def copy(kind, name, fill):
        if (kind, name) not in templates:
            templates[kind, name] = fill_once(kind, name, fill)
        source, folder = templates[kind, name], request.getfixturevalue("tmp_path") / "copied"
        if kind == "postgresql":
            url = request.getfixturevalue("make_database")(template=name)
            if source.artifacts.exists():
                shutil.copytree(source.artifacts, folder / "artifacts")
            return Place(url, folder / "artifacts")
        shutil.copytree(source.root, folder / "registry", symlinks=True)
        return Place(str(folder / "registry"), folder / "registry" / "artifacts")

    return copy


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
def cache(tmp_path, monkeypatch):
    """A cache for this test alone."""
    monkeypatch.setenv("MLC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "registry"


@pytest.fixture(params=["file", "memory", "sqlite"])
def url(request, tmp_path):
    """A storage of each kind: core's directory and memory, and the example plugin's SQLite file."""
    if request.param == "sqlite":
        pytest.importorskip("mlc_acme", reason="docs/examples/mlc-acme is not installed")
    places = {
        "file": (tmp_path / "storage").as_uri(),
        "memory": f"memory://registry-{uuid.uuid4().hex}",
        "sqlite": f"sqlite://{tmp_path}/storage.db/registry",
    }
    return places[request.param]


@pytest.fixture
def remote(root, empty_registry, url, cache):
    """An empty registry with its artifacts there."""
    shutil.copytree(empty_registry, root)
    with ModelRegistry(root, artifacts=url) as opened:
        yield opened


@pytest.fixture
def filed(root, empty_registry, tmp_path, cache):
    """The same in a directory, to look inside."""
    shutil.copytree(empty_registry, root)
    with ModelRegistry(root, artifacts=(tmp_path / "storage").as_uri()) as opened:
        yield opened


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
def tensors(tmp_path):
    """Write a safetensors file of zeros, of which *schema* says names, dtypes and shapes; return its path."""
    sizes = {"F64": 8, "F32": 4, "F16": 2, "I8": 1}

    def write(schema, name="model.safetensors", *, note="a"):
        header, end = {"__metadata__": {"note": note}}, 0
        for tensor, (dtype, shape) in schema.items():
            begin, end = end, end + sizes[dtype] * math.prod(shape)
            header[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": (begin, end)}
        text = json.dumps(header).encode()
        path = tmp_path / "made" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
        return path

    return write


MIGRATION = """
DESCRIPTION: str = "Adds  its\\nname."

def migrate(source, target):
    paths = source.iterdir() if source.is_dir() else [source]
    for path in paths:
        (target / path.name).write_text(path.read_text() + " {name}")
"""


@pytest.fixture
def scripts(tmp_path):
    """Write scripts for the model `net` and return the directory."""

    def write(*names, folder="scripts", **sources):
        place = tmp_path / folder
        (place / "net").mkdir(parents=True, exist_ok=True)
        for name in names:
            (place / "net" / f"{name}.py").write_text(MIGRATION.format(name=name))
        for name, source in sources.items():
            (place / "net" / f"{name[1:]}.py").write_text(textwrap.dedent(source))
        return place

    return write


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


@pytest.fixture
def make_key(tmp_path):
    """Make elliptic-curve keys by name; return the paths of both halves."""

    def make(name="release", *, curve="SECP256R1", password=None):
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(getattr(ec, curve)())
        secret = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        private, public = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub"
        form, pem = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
        private.write_bytes(key.private_bytes(pem, form, secret))
        public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
        return private, public

    return make
