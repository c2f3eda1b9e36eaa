"""What killed publishers leave is swept, and nothing else ever is."""

import errno
import fcntl
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from mlc_registry import ModelRegistry, StoreError

pytestmark = pytest.mark.slow

NOW = timedelta(0)

# Dies before the call with the number that is given, of those that change something in the file system or the database.
KILLED = """
import os, signal, sys, traceback
import alembic.command, alembic.config, attrs, mlc_registry.artifacts.sweeping, mlc_registry.stores.sqlite
from mlc_registry import ModelRegistry
if "://" in sys.argv[1]:
    import mlc_registry.stores.postgresql, psycopg, sqlalchemy.dialects.postgresql.psycopg

CALLS = {
    *[("posix", name) for name in "mkdir open fsync fchmod rename unlink rmdir write".split()], ("fcntl", "flock"),
    ("BufferedWriter", "write"), ("Cursor", "execute"), ("Connection", "commit"),
}

def kill_at(moment):
    seen = 0
    def watch(frame, event, argument):
        nonlocal seen
        if event == "c_call":
            counts = (argument.__module__ or type(argument.__self__).__name__, argument.__name__) in CALLS
        else:
            counts = frame.f_code.co_name == "wait" and frame.f_code.co_filename.endswith("psycopg/connection.py")
        seen += counts
        if counts and seen == moment:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(watch)

root, artifacts, source, step = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
moment = 0
while True:
    moment += step
    child = os.fork()
    if not child:
        try:
            with ModelRegistry(root, artifacts=artifacts) as registry:
                # What a killed process has not drawn, the next one has to: that would never end.
                registry._backend = attrs.evolve(registry._backend, view=None)
                kill_at(moment)
                registry.register_model(f"net-{moment % 3}", f"1.{moment}.0", source)
            sys.setprofile(None)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    print(moment, flush=True)
    if status == 0:
        break
"""

# Publishes, and waits for a line at the moment that is named.
PAUSED = """
import sys
from mlc_registry import ModelRegistry
from mlc_registry import registry
from mlc_registry.artifacts import local as artifacts
from mlc_registry.artifacts import transfers

def pause(target, name):
    original = getattr(target, name)
    def paused(*arguments, **options):
        print("here", flush=True)
        sys.stdin.readline()
        return original(*arguments, **options)
    setattr(target, name, paused)

opened = ModelRegistry(sys.argv[1], artifacts=sys.argv[2])
{"files": lambda: pause(artifacts, "bring"),
 "rename": lambda: pause(type(opened._backend.artifacts), "install"),
 "row": lambda: pause(opened._backend.store, "publish")}[sys.argv[4]]()
opened.register_model("net", "1.0.0", sys.argv[3])
print("done", flush=True)
"""

RACE = """
import sys
from datetime import timedelta
from pathlib import Path
from mlc_registry import ModelRegistry
root, artifacts, source, who = sys.argv[1:]
with ModelRegistry(root, artifacts=artifacts) as registry:
    if who == "sweeper":
        print("ready", flush=True)
        for _ in range(100_000):
            print(len(registry.artifacts.sweep(older_than=timedelta(0), dry_run=False)), flush=True)
    for number in range(25):
        registry.register_model(f"net-{number % 4}", f"{who}.{number}.0", source)
"""


@pytest.fixture
def checkpoint(checkpoint):
    """Files that are copied, not linked."""
    (checkpoint / "manifest.json").write_text("{}")
    return checkpoint


@pytest.fixture
def start():
    """Start programs; whatever happens, none outlives the test."""
    started = []

    def start(code, *arguments, **options):
        command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
        started.append(subprocess.Popen(command, text=True, stdout=subprocess.PIPE, **options))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


def list_artifacts(place):
    """Return all files in the artifacts but the notes of whose they are."""
    found = (path.relative_to(place.artifacts).as_posix() for path in place.artifacts.rglob("*") if not path.is_dir())
    return sorted(one for one in found if not one.startswith(".owners/"))


def list_published(registry):
    """Return all files that rows name."""
    return sorted(
        f"{one.directory}/{file.path}"
        for model in registry.list_models()
        for one in registry.list_versions(model.name)
        for file in registry.list_files(model.name, one.version)
    )


def wait_for_commits(place):
    """Let the server finish what clients that were killed have asked for."""
    while not place.is_sqlite:
        with place.behind() as connection:
            others = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            if not connection.exec_driver_sql(others).scalar():
                return
        time.sleep(0.01)


def test_killed_at_many_calls(place, checkpoint, run_python):
    """After the sweep there are the published files, and no others."""
    step = 3 if place.is_sqlite else 7
    moments = run_python(KILLED, place.root, place.artifacts, checkpoint, step).split()
    wait_for_commits(place)
    with place.open() as registry:
        expected = list_published(registry)
        assert set(expected) < set(list_artifacts(place))
        seen = registry.artifacts.sweep(older_than=NOW)
        swept = registry.artifacts.sweep(older_than=NOW, dry_run=False)

        assert len(moments) > 10
        assert {"staging", "unpublished"} == {one.kind for one in seen}
        assert seen == swept
        assert expected == list_artifacts(place) == list_published(registry)
        assert () == registry.artifacts.sweep(older_than=NOW)
        for model in registry.list_models():
            for one in registry.list_versions(model.name):
                registry.verify(model.name, one.version)


def test_killed_sweepers_leave_what_the_next_one_finds(place, checkpoint, run_python):
    """Killed at many calls, and nothing that was published goes."""
    step = 9 if place.is_sqlite else 25
    run_python(KILLED, place.root, place.artifacts, checkpoint, step)
    wait_for_commits(place)
    sweeper = KILLED.replace(
        'registry.register_model(f"net-{moment % 3}", f"1.{moment}.0", source)',
        'registry.artifacts.sweep(older_than=__import__("datetime").timedelta(0), dry_run=False)',
    )
    with place.open() as registry:
        expected = list_published(registry)
        run_python(sweeper, place.root, place.artifacts, checkpoint, step)
        registry.artifacts.sweep(older_than=NOW, dry_run=False)

        assert expected == list_artifacts(place) == list_published(registry)


@pytest.mark.parametrize("moment", ["files", "rename", "row"])
def test_living_publishers_are_never_swept(place, checkpoint, start, moment):
    """However long they take, and whatever the clock says."""
    process = start(PAUSED, place.root, place.artifacts, checkpoint, moment, stdin=subprocess.PIPE)
    assert "here\n" == process.stdout.readline()
    with place.open() as registry:
        there = list_artifacts(place)
        assert () == registry.artifacts.sweep(older_than=timedelta(days=-1), dry_run=False)
        assert there == list_artifacts(place)
        process.communicate("\n" * 10)

        assert 0 == process.returncode
        registry.verify("net", "1.0.0")
        assert () == registry.artifacts.sweep(older_than=timedelta(days=-1))


@pytest.mark.parametrize("moment", ["files", "row"])
def test_dead_publishers_are(place, checkpoint, start, moment):
    """The same moments, killed: the number is free."""
    process = start(PAUSED, place.root, place.artifacts, checkpoint, moment, stdin=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for_commits(place)
    with place.open() as registry:
        swept = registry.artifacts.sweep(older_than=NOW, dry_run=False)

        assert ["staging", *(["unpublished"] if moment == "row" else [])] == [one.kind for one in swept]
        assert [] == list_artifacts(place)
        assert "net/1.0.0" == registry.register_model("net", "1.0.0", checkpoint).directory


def test_racing_publishers_and_sweepers_lose_nothing(place, checkpoint, start):
    """Three of the one and two of the other, all the time."""
    sweepers = [start(RACE, place.root, place.artifacts, checkpoint, "sweeper") for _ in range(2)]
    for process in sweepers:
        assert "ready\n" == process.stdout.readline()
    publishers = [start(RACE, place.root, place.artifacts, checkpoint, who) for who in range(3)]
    for process in publishers:
        process.communicate()
        assert 0 == process.returncode
    for process in sweepers:
        assert process.poll() is None
        process.kill()
        process.communicate()
    with place.open() as registry:
        found = [one for model in registry.list_models() for one in registry.list_versions(model.name)]
        for one in found:
            registry.verify(one.model, one.version)
        registry.artifacts.sweep(older_than=NOW, dry_run=False)

        assert 75 == len(found)
        assert list_published(registry) == list_artifacts(place)


def test_young_leftovers_stay(registry, root, weights):
    """A day, unless said otherwise: a database may still be about to commit."""
    left = root / "artifacts" / "net" / "1.0.0"
    left.mkdir(parents=True)
    (left / "model.bin").write_text("abc")

    assert () == registry.artifacts.sweep(dry_run=False)
    assert [("unpublished", "net/1.0.0", 3)] == [
        (one.kind, one.place, one.size) for one in registry.artifacts.sweep(older_than=NOW)
    ]
    registry.artifacts.sweep(older_than=NOW, dry_run=False)
    assert not left.parent.exists()
    registry.register_model("net", "1.0.0", weights())


def test_what_is_not_ours_stays(registry, root, publish):
    """Directories that no publisher would make, files, and links."""
    publish("1.0.0")
    for name in ("net/notes", "Documents/old", ".git/1.0.0", "net/1.0"):
        (root / "artifacts" / name).mkdir(parents=True)
    (root / "artifacts" / "net" / "2.0.0").write_text("a file")
    (root / "artifacts" / "other").symlink_to("net")

    assert () == registry.artifacts.sweep(older_than=NOW, dry_run=False)
    assert (root / "artifacts" / "Documents" / "old").is_dir()


def test_removed_versions_that_kept_their_files_are_swept(registry, root, publish):
    """Whoever removed them was killed before the files went."""
    publish("1.0.0", "2.0.0")
    registry._backend.store.statements.remove("net", registry.get("net", "1.0.0").version, actor="ann", reason="old")
    swept = registry.artifacts.sweep(older_than=NOW, dry_run=False)

    assert ["net/1.0.0"] == [one.place for one in swept]
    registry.verify("net", "2.0.0")


def test_artifacts_of_two_registries_are_not_swept(registry, root, publish, tmp_path, weights):
    """The files of one look like leftovers to the other."""
    publish("1.0.0")
    with ModelRegistry(tmp_path / "other", artifacts=root / "artifacts") as other:
        with pytest.raises(StoreError, match="1 other registries"):
            other.artifacts.sweep(older_than=NOW)
        other.register_model("other", "1.0.0", weights("other"))
        with pytest.raises(StoreError, match="nothing was swept"):
            registry.artifacts.sweep(older_than=NOW)
        registry.verify("net")


def test_file_systems_without_locks_are_published_to_and_not_swept(registry, publish, root, monkeypatch):
    """Nobody can tell who is at work there."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    (root / "artifacts" / ".staging").mkdir(parents=True)
    (root / "artifacts" / ".staging" / "0.lock").touch()
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        publish("1.0.0")
        with pytest.raises(StoreError, match="who is at work"):
            registry.artifacts.sweep(older_than=NOW)

    registry.verify("net")
    assert ["staging"] == [one.kind for one in registry.artifacts.sweep(older_than=NOW, dry_run=False)]


def test_locks_that_sweepers_took_are_not_relied_on(registry, root, publish, monkeypatch):
    """A sweeper that removes the lock file between making and locking it sends the publisher to another one."""
    real, held = fcntl.flock, []

    def hindered(descriptor, operation):
        lock = Path(f"/proc/self/fd/{descriptor}").readlink()
        if lock.suffix == ".lock" and operation & fcntl.LOCK_EX and len(held) < 2:
            held.append(lock)
            if len(held) == 1:
                lock.unlink()
            else:
                raise BlockingIOError
        return real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", hindered)
    publish("1.0.0")

    assert 2 == len(set(held))
    registry.verify("net")


def test_command(mlc, root, registry):
    """Looks, and sweeps only when told."""
    left = root / "artifacts" / "net" / "1.0.0"
    left.mkdir(parents=True)
    (left / "model.bin").write_text("abc")
    look = mlc("registry", "sweep", "--registry", root, "--older-than", "0")
    assert 0 == look[0]
    assert "net/1.0.0" in look[1]
    assert "--apply" in look[2]
    assert left.exists()

    assert '"place": "net/1.0.0"' in mlc("registry", "sweep", "--registry", root, "--older-than", "0", "--json")[1]
    assert 0 == mlc("registry", "sweep", "--registry", root, "--older-than", "0", "--apply")[0]
    assert not left.exists()
