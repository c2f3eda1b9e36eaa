"""Killed at any moment: a version is there whole or not at all, and the registry goes on."""

import subprocess
import sys
import time

import pytest

from mlc_registry import ModelRegistry

pytestmark = pytest.mark.slow

# Counts the calls that change something outside of the process, and dies before one of them.
PUBLISHER = """
import json, os, signal, sys, traceback
from pathlib import Path
import alembic.command, alembic.config, mlc_registry.stores.sqlite  # or most moments would be imports
from mlc_registry import ModelRegistry

root, artifacts, source, fresh = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4] == "fresh"
on_server = "://" in root
if on_server:
    import mlc_registry.stores.postgresql, psycopg, sqlalchemy.dialects.postgresql.psycopg
CALLS = {
    *[("posix", name) for name in "mkdir open fsync fchmod link rename replace symlink unlink rmdir close".split()],
    ("BufferedWriter", "write"), ("Cursor", "execute"), ("Connection", "execute"), ("Connection", "commit"),
    ("Connection", "close"),
}

def kill_at(moment):
    seen = 0
    def watch(frame, event, argument):
        nonlocal seen
        if event == "c_call":
            owner = argument.__module__ or type(argument.__self__).__name__
            counts = (owner, argument.__name__) in CALLS
        else:  # what the server is asked, and what it has answered, is seen in psycopg's own functions only
            counts = frame.f_code.co_name == "wait" and frame.f_code.co_filename.endswith("psycopg/connection.py")
        if counts:
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(watch)

moment = 0
while True:
    moment += 7 if fresh else 1 + on_server  # Alembic alone makes a hundred calls, and a server answers slowly
    place = f"{root}/{moment}" if fresh and not on_server else root
    files = artifacts if on_server else f"{place}/artifacts"
    child = os.fork()
    if not child:
        try:
            kill_at(moment)
            with ModelRegistry(place, artifacts=files) as registry:
                registry.register_model("net", f"1.{moment}.0", source, {"moment": moment})
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


@pytest.fixture
def publish_until_it_lives(checkpoint, tmp_path):
    """Kill a publisher one call later each time, until it comes through; return the moments, the last one survived."""

    def run(place, *, fresh):
        if not fresh:
            (checkpoint / "manifest.json").write_text("{}")  # so that files are copied, not linked
        arguments = [place.root, str(place.artifacts), str(checkpoint), "fresh" if fresh else "same"]
        process = subprocess.run(
            [sys.executable, "-c", PUBLISHER, *arguments], check=False, capture_output=True, text=True
        )
        assert 0 == process.returncode, process.stderr
        return list(map(int, process.stdout.split()))

    return run


def test_publishing_is_all_or_nothing(publish_until_it_lives, place, checkpoint):
    """At every call: what is there is whole, what is not can be published, and nobody is in the way."""
    moments = publish_until_it_lives(place, fresh=False)
    registry = place.open()
    there = {one.version.minor: one for one in registry.list_versions("net")}

    assert len(moments) > 30
    assert moments[-1] in there
    assert 1 < len(there) < len(moments)  # both sides of the commit were seen
    for moment in moments:
        again = registry.register_model("net", f"1.{moment}.0", checkpoint, {"moment": moment})
        assert there.get(moment, again) == again
        registry.verify("net", again.version)
    assert len(moments) == len(registry.history("net")) == registry.audit.verify().lines
    if place.is_sqlite:
        shown = place.artifacts.parent / "models" / "net"
        assert {"latest", *(f"1.{moment}.0" for moment in moments)} == {one.name for one in shown.iterdir()}
        assert f"1.{moments[-1]}.0" == str((shown / "latest").readlink())
    registry.close()


def test_making_a_registry_is_all_or_nothing(publish_until_it_lives, bare_place, checkpoint):
    """A registry whose maker was killed can be made and used by the next one."""
    moments = publish_until_it_lives(bare_place, fresh=True)

    assert len(moments) > 10
    for moment in moments:
        root, artifacts = bare_place.root, bare_place.artifacts
        if bare_place.is_sqlite:
            root, artifacts = f"{root}/{moment}", f"{root}/{moment}/artifacts"
        with ModelRegistry(root, artifacts=artifacts) as registry:
            registry.register_model("net", f"1.{moment}.0", checkpoint, {"moment": moment})
            registry.verify("net", f"1.{moment}.0")
            assert not bare_place.is_sqlite or 1 == len(registry.list_versions("net"))


def test_killed_at_no_special_moment(bare_place, checkpoint):
    """Between the calls as well: a loop of publishing, killed from outside; what it said was done is done."""
    code = """
import sys
from mlc_registry import ModelRegistry
with ModelRegistry(sys.argv[1], artifacts=sys.argv[2]) as registry:
    for number in range(100_000):
        print(registry.register_model("net", f"{sys.argv[4]}.{number}.0", sys.argv[3]).version, flush=True)
"""
    said = []
    for attempt, delay in enumerate((0.0, 0.004)):
        command = [sys.executable, "-c", code, bare_place.root, bare_place.artifacts, checkpoint, str(attempt)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        said += [process.stdout.readline().strip() for _ in range(3)]
        time.sleep(delay)
        process.kill()
        said += process.communicate()[0].split()

    with bare_place.open() as registry:
        there = [str(one.version) for one in registry.list_versions("net")]
        assert len(there) == registry.audit.verify().versions
        assert set(said) <= set(there)
        for version in there:
            registry.verify("net", version)
