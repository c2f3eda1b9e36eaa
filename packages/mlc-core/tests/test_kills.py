"""Real processes, killed by strace at each system call of a save, and given errors and short writes by it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from mlc_core import CheckpointManager
from mlc_core.retention import KeepAll

SCRIPTS = Path(__file__).parent / "scripts"
CALLS = "openat,write,fsync,rename,mkdir,unlink,unlinkat,rmdir,symlink,flock"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("COV")}

strace = shutil.which("strace")
pytestmark = pytest.mark.skipif(strace is None, reason="strace is not installed: no process is really killed")


@pytest.fixture(scope="module")
def nursery():
    """A process that starts others, each ready to save."""
    command = [sys.executable, str(SCRIPTS / "nursery.py")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT) as process:
        yield process
        process.stdin.close()


def save_traced(nursery, place, *options, log="/dev/null"):
    """Let a process save epoch 3 in *place* under strace with *options*, and return its status."""
    print(place, 3, file=nursery.stdin, flush=True)
    child = int(nursery.stdout.readline())
    command = [strace, "-f", "-p", str(child), "-o", str(log), "-e", f"trace={CALLS}", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        said = tracer.stderr.readline()
        os.kill(child, signal.SIGCONT)
        status = int(nursery.stdout.readline())
        tracer.stderr.read()
    if "attached" not in said:
        pytest.skip(f"strace may not attach to a process here: {said}")
    return status


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A directory with epochs 1 and 2."""
    place = tmp_path_factory.mktemp("template")
    command = [sys.executable, SCRIPTS / "save.py", place, "1", "2", "--keep", "2"]
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    return place


@pytest.fixture
def run(template, tmp_path):
    """A copy of the directory, to be harmed."""
    shutil.copytree(template, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


@pytest.fixture(scope="module")
def calls(nursery, template, tmp_path_factory):
    """How often a save makes each call."""
    place = tmp_path_factory.mktemp("whole")
    shutil.copytree(template, place / "run", symlinks=True)
    assert 0 == save_traced(nursery, place / "run", log=place / "trace")
    lines = (place / "trace").read_text().splitlines()
    return Counter(found[1] for line in lines if (found := re.match(r"\d+ +(\w+)\(", line)))


def contents(place):
    """Return the epochs in order of commit, each loaded and held against what was saved."""
    manager = CheckpointManager(place, "unet", retention=KeepAll(), monitor_metric="score", mode="max")
    assert [] == manager.get_checkpoint_summary()["damaged"]
    for one in manager.list_checkpoints():
        state = manager.load_checkpoint(one.name).state
        assert {"epoch": one.epoch, "who": "nobody", "data": list(range(one.epoch, one.epoch + 500))} == dict(state)
    assert manager.load_checkpoint("latest").saved.epoch == manager.list_checkpoints()[-1].epoch
    return [one.epoch for one in manager.list_checkpoints()]


@pytest.mark.slow
def test_killed_at_each_system_call(nursery, template, calls, tmp_path):
    """The newest committed checkpoint loads, whatever was going on, and what the dead left behind is swept."""
    outcomes = Counter()
    for call, times in calls.items():
        for when in range(1, times + 1):
            place = tmp_path / f"{call}-{when}"
            shutil.copytree(template, place, symlinks=True)
            status = save_traced(nursery, place, "-e", f"inject={call}:signal=SIGKILL:when={when}")
            assert -signal.SIGKILL == status, (call, when)
            found = contents(place)
            assert found in ([1, 2], [1, 2, 3], [2, 3]), (call, when)
            outcomes[tuple(found)] += 1
            for path in (place / "unet").glob(".*"):
                os.utime(path, (time.time() - 3600,) * 2, follow_symlinks=False)
            contents(place)
            assert [] == list((place / "unet").glob(".*")), (call, when)
            shutil.rmtree(place)

    assert {"openat", "write", "fsync", "rename", "mkdir", "symlink", "flock"} <= set(calls)
    assert {(1, 2), (1, 2, 3), (2, 3)} == set(outcomes)


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["fsync", "write", "openat", "mkdir", "rename", "flock"])
def test_first_call_of_each_kind_fails(nursery, run, call, error):
    """An error of the kernel: the save says so, what was there is untouched, nothing is left."""
    assert 1 == save_traced(nursery, run, "-e", f"inject={call}:error={error}:when=1")
    assert [1, 2] == contents(run)
    assert [] == list((run / "unet").glob(".*"))


def test_write_that_takes_nothing_is_continued(nursery, run):
    """The kernel may take less than it was given."""
    assert 0 == save_traced(nursery, run, "-e", "inject=write:retval=0:when=1")
    assert [2, 3] == contents(run)


def test_write_that_lies_is_found_on_load(nursery, run):
    """A disk that says it took ten bytes and did not: size or digest tell, and the one before is loaded."""
    assert 0 == save_traced(nursery, run, "-e", "inject=write:retval=10:when=1")
    manager = CheckpointManager(run, "unet", retention=KeepAll())

    with pytest.warns(match="epoch_3"):
        assert 2 == manager.load_checkpoint("latest").saved.epoch
