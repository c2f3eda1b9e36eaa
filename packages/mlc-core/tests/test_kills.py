"""Real processes, killed by strace at each system call of a save, and given errors and short writes by it."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from mlc_core import CheckpointManager
from mlc_core.retention import KeepAll

SCRIPTS = Path(__file__).parent / "scripts"
CHANGING = "write,pwrite64,fsync,fallocate,ftruncate,rename,linkat,mkdir,unlink,unlinkat,rmdir,symlink,flock"
CALLS = f"openat,{CHANGING}"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("COV")},
    "OPENBLAS_NUM_THREADS": "1",  # a process with threads should not be forked
}
LARGE = 5_000_011

strace = shutil.which("strace")
pytestmark = pytest.mark.skipif(strace is None, reason="strace is not installed: no process is really killed")


class Nursery:
    """A process that starts others, each ready to save."""

    def __init__(self, process):
        self.process = process
        self.child = None

    def start(self, place, size=0, how="here"):
        """Return the number of a process that stands still before it saves epoch 3 in *place*."""
        print(place, 3, size, how, file=self.process.stdin, flush=True)
        self.child = int(self.process.stdout.readline())
        return self.child

    def end(self):
        """Return the status of the process that was started last, once it has ended."""
        status = int(self.process.stdout.readline())
        self.child = None
        return status

    def trace(self, place, *options, log="/dev/null", calls=CALLS, **given):
        """Let a process save in *place* under strace with *options*, and return its status."""
        child = self.start(place, **given)
        command = [strace, "-f", "-p", str(child), "-o", str(log), "-e", f"trace={calls}", *options]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            said = tracer.stderr.readline()
            os.kill(child, signal.SIGCONT)
            status = self.end()
            tracer.stderr.read()
        if "attached" not in said:
            pytest.skip(f"strace may not attach to a process here: {said}")
        return status


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    """A process that starts others."""
    command = [sys.executable, str(SCRIPTS / "nursery.py")]
    errors = (tmp_path_factory.mktemp("nursery") / "errors").open("w")
    pipe = subprocess.PIPE
    with (
        errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=ENVIRONMENT) as process,
    ):
        found = Nursery(process)
        yield found
        if found.child is not None:  # nobody let it go
            os.kill(found.child, signal.SIGKILL)
        process.kill()  # children of other tests may hold its standard input open, and it would wait for its end


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """Directories with epochs 1 and 2: of small checkpoints, and of large ones."""
    found = {}
    for size in (0, LARGE):
        found[size] = tmp_path_factory.mktemp("template")
        command = [sys.executable, SCRIPTS / "save.py", found[size], "1", "2", "--keep", "2", "--large", str(size)]
        subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    return found


def copy(template, place):
    """Copy a directory with its hard links."""
    subprocess.run(["cp", "-a", template, place], check=True)
    return place


@pytest.fixture
def run(templates, tmp_path):
    """A directory with two small checkpoints, to be harmed."""
    return copy(templates[0], tmp_path / "run")


@pytest.fixture
def large_run(templates, tmp_path):
    """A directory with two large checkpoints, to be harmed."""
    return copy(templates[LARGE], tmp_path / "large")


def count_calls(log):
    """Return how often each call was made by the thread that made it most often."""
    threads = Counter(re.findall(r"^(\d+) +(\w+)\(", log.read_text(), re.MULTILINE))
    most = Counter()
    for (_, call), times in threads.items():
        most[call] = max(most[call], times)
    return most


def wait_for_orphans(root):
    """Wait until no process holds what was staged: the writer's process ends when it sees its parent gone."""
    for _ in range(200):
        locked = subprocess.run(
            ["flock", "-n", "-x", *root.glob(".mlc/staging/*"), "true"], check=False, capture_output=True
        )
        if not locked.returncode or not list(root.glob(".mlc/staging/*")):
            return
        time.sleep(0.02)


SCENARIOS = {
    "a small save": {"size": 0, "how": "here"},
    "a large save with direct I/O and a hard link": {"size": LARGE, "how": "here"},
    "an asynchronous save in a thread": {"size": LARGE, "how": "thread"},
    "an asynchronous save in a process": {"size": LARGE, "how": "process"},
}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_each_system_call(nursery, templates, tmp_path, faults, epochs_in, grow_old, leftovers, scenario):
    """The newest committed checkpoint loads, whatever was going on, and what the dead left behind is swept.

    Retention after the save is a part of it. The calls of several threads are counted for each of them.
    """
    given = SCENARIOS[scenario]
    calls = CHANGING if given["how"] == "process" else CALLS  # another interpreter opens hundreds of files to begin
    whole = copy(templates[given["size"]], tmp_path / "whole")
    assert 0 == nursery.trace(whole, log=tmp_path / "trace", calls=calls, **given)
    assert [2, 3] == epochs_in(whole, large=given["size"])
    cases = [(call, when) for call, times in count_calls(tmp_path / "trace").items() for when in range(1, times + 1)]
    outcomes, died = Counter(), 0
    for call, when in faults.sample(cases, 14):
        place = copy(templates[given["size"]], tmp_path / f"{call}-{when}")
        status = nursery.trace(place, "-e", f"inject={call}:signal=SIGKILL:when={when}", calls=calls, **given)
        died += status == -signal.SIGKILL
        with faults.case(f"SIGKILL at a system call of {scenario}"):
            found = epochs_in(place, large=given["size"])
            if found not in ([1, 2], [1, 2, 3], [2, 3]):
                raise faults.Lost(call, when, found)
            outcomes[tuple(found)] += 1
            wait_for_orphans(place / "unet")
            grow_old(place / "unet")
            epochs_in(place, large=given["size"])
            assert [] == leftovers(place / "unet"), (call, when)
            CheckpointManager(place, "unet", max_checkpoints=2).save_checkpoint(items={"a": 1}, epoch=4)
            if {"a": 1} != dict(CheckpointManager(place, "unet").load_checkpoint("latest").state):
                raise faults.Lost(call, when)
            leftovers(place / "unet")  # what that save removes is deleted by now
        shutil.rmtree(place)

    tried = {call for call, _ in cases}
    assert {"write", "fsync", "rename", "mkdir", "symlink", "flock"} <= tried
    assert not given["size"] or {"pwrite64", "ftruncate"} <= tried
    assert died >= (len(outcomes) if given["how"] == "process" else len(faults.sample(cases, 14)) - 3)
    assert (1, 2) in outcomes
    assert len(outcomes) > 1


def test_hard_link_is_among_the_calls(nursery, large_run, tmp_path):
    """Where there is NumPy; what is frozen is not written again."""
    pytest.importorskip("numpy")
    assert 0 == nursery.trace(large_run, log=tmp_path / "trace", size=LARGE)

    assert 1 == count_calls(tmp_path / "trace")["linkat"]
    assert (large_run / "unet" / "epoch_2" / "frozen.safetensors").samefile(
        large_run / "unet" / "epoch_3" / "frozen.safetensors"
    )


@pytest.mark.parametrize("how", ["here", "thread", "process"])
def test_killed_at_any_moment(nursery, templates, tmp_path, faults, epochs_in, how):
    """By the clock, between calls too."""
    chance = random.Random(how)
    for number in range(40 if faults.thorough else 4):
        place = copy(templates[LARGE], tmp_path / str(number))
        child = nursery.start(place, size=LARGE, how=how)
        os.kill(child, signal.SIGCONT)
        time.sleep(chance.uniform(0, 0.6 if how == "process" else 0.12))
        with faults.case("SIGKILL by the clock"):
            with suppress(ProcessLookupError):  # it was quicker
                os.kill(child, signal.SIGKILL)
            nursery.end()
            found = epochs_in(place, large=LARGE)
            if found not in ([1, 2], [1, 2, 3], [2, 3]):
                raise faults.Lost(number, found)
        wait_for_orphans(place / "unet")
        shutil.rmtree(place)


def test_killed_writer_process_fails_one_save(nursery, large_run, tmp_path, faults, epochs_in):
    """The training process says so and lives; the checkpoints before are untouched."""
    child = nursery.start(large_run, size=LARGE, how="process")
    os.kill(child, signal.SIGCONT)
    writers = []
    with faults.case("SIGKILL of the writer's process"):
        end = time.monotonic() + 20
        while not writers and time.monotonic() < end:
            writers = children(child)
        assert writers, "no other process was started"
        os.kill(int(writers[0]), signal.SIGKILL)
        assert 1 == nursery.end()
        assert [1, 2] == epochs_in(large_run, large=LARGE)


def children(number):
    """Return the numbers of the processes that a process has started, in whichever thread."""
    tasks = list(Path(f"/proc/{number}/task").iterdir())
    return [one for task in tasks for one in (task / "children").read_text().split()]


def test_killed_once_staged(nursery, large_run, faults, epochs_in):
    """A state that was copied and not committed is not there: nothing of it can be seen."""
    with faults.case("SIGKILL between staged and durable"):
        child = nursery.start(large_run, size=LARGE, how="staged")
        os.kill(child, signal.SIGCONT)
        assert -signal.SIGKILL == nursery.end()
        assert [1, 2] == epochs_in(large_run, large=LARGE)


@pytest.mark.slow
def test_killed_while_pinning_and_setting_aside(nursery, templates, tmp_path, faults, epochs_in):
    """Both are one rename: before it or after it."""
    whole = copy(templates[0], tmp_path / "whole")
    assert 0 == nursery.trace(whole, log=tmp_path / "trace", how="pin")
    cases = [(call, when) for call, times in count_calls(tmp_path / "trace").items() for when in range(1, times + 1)]
    for call, when in faults.sample(cases, 8):
        place = copy(templates[0], tmp_path / f"{call}-{when}")
        nursery.trace(place, "-e", f"inject={call}:signal=SIGKILL:when={when}", how="pin")
        with faults.case("SIGKILL while pinning and setting aside"):
            found = epochs_in(place)
            aside = [one.name[:7] for one in (place / "unet").glob(".mlc/quarantine/*")]
            if not (found == [1, 2] and aside == []) and not (found == [1] and aside == ["epoch_2"]):
                raise faults.Lost(call, when)


# ---------------------------------------------------------------------- errors of the kernel


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["fsync", "write", "openat", "mkdir", "rename", "flock"])
def test_first_call_of_each_kind_fails(nursery, run, faults, epochs_in, leftovers, call, error):
    """An error of the kernel: the save says so, what was there is untouched, nothing is left."""
    with faults.case("an error of the kernel"):
        when = 2 if call == "mkdir" else 1  # the first one makes what is there already
        assert 1 == nursery.trace(run, "-e", f"inject={call}:error={error}:when={when}")
        if [1, 2] != epochs_in(run):
            raise faults.Lost(call, error)
        assert [] == leftovers(run / "unet")


ERRORS = {
    "pwrite64": ("EIO", "ENOSPC", "EDQUOT", "EINVAL", "EINTR"),
    "fsync": ("EIO", "ENOSPC", "EDQUOT", "EINTR"),
    "fallocate": ("EIO", "ENOSPC", "EDQUOT", "EFBIG", "EOPNOTSUPP", "EINTR"),
    "ftruncate": ("EIO", "EINTR"),
    "write": ("EIO", "ENOSPC", "EINTR"),
    "rename": ("EIO", "ENOSPC"),
    "linkat": ("EMLINK", "EPERM", "EXDEV", "EIO"),
    "openat": ("EINVAL", "EMFILE", "EIO"),
    "flock": ("ENOLCK", "EINTR"),
}


@pytest.mark.slow
def test_failing_calls_of_a_large_save(nursery, templates, tmp_path, faults, epochs_in):
    """In whichever thread: an error that leaves everything as it was, or the right content all the same."""
    outcomes, log = Counter(), tmp_path / "log"
    for call, error, when in faults.sample(
        [(call, error, when) for call, errors in ERRORS.items() for error in errors for when in (1, 2, 3)], 36
    ):
        place = copy(templates[LARGE], tmp_path / f"{call}-{error}-{when}")
        status = nursery.trace(place, "-e", f"inject={call}:error={error}:when={when}", size=LARGE, log=log)
        if "(INJECTED)" not in log.read_text():
            continue  # no thread made so many of these calls
        with faults.case("an error of the kernel"):
            found = epochs_in(place, large=LARGE)
            if found not in ([1, 2], [1, 2, 3], [2, 3]) or (status == 0 and 3 not in found):
                raise faults.Lost(call, error, when, found)
            assert status in {0, 1}
            outcomes[status] += 1
        shutil.rmtree(place)

    assert {0, 1} == set(outcomes)


@pytest.mark.slow
def test_short_writes_of_a_large_save(nursery, templates, tmp_path, faults, epochs_in):
    """A write that takes nothing is made again; one that lies about what it took is found when it is loaded."""
    log = tmp_path / "log"
    for taken, when in faults.sample([(0, 1), (0, 2), (512, 1), (4096, 2), (4096, 1), (77, 2), (1_000_001, 1)], 4):
        place = copy(templates[LARGE], tmp_path / f"{taken}-{when}")
        status = nursery.trace(place, "-e", f"inject=pwrite64:retval={taken}:when={when}", size=LARGE, log=log)
        if "(INJECTED)" not in log.read_text():
            continue  # each thread had one chunk only
        with faults.case("a write that takes less than it says"):
            if taken == 0:
                assert 0 == status
                assert [2, 3] == epochs_in(place, large=LARGE)
                continue
            assert 0 == status
            manager = CheckpointManager(place, "unet", retention=KeepAll())
            with pytest.warns(match="epoch_3"):
                found = manager.load_checkpoint("latest")
            if 2 != found.saved.epoch:
                raise faults.Silent(taken, when)
        shutil.rmtree(place)


def test_write_that_takes_nothing_is_continued(nursery, run, epochs_in):
    """The kernel may take less than it was given."""
    assert 0 == nursery.trace(run, "-e", "inject=write:retval=0:when=1")
    assert [2, 3] == epochs_in(run)


def test_write_that_lies_is_found_on_load(nursery, run, faults):
    """A disk that says it took ten bytes and did not: size or digest tell, and the one before is loaded."""
    with faults.case("a write that takes less than it says"):
        assert 0 == nursery.trace(run, "-e", "inject=write:retval=10:when=1")
        manager = CheckpointManager(run, "unet", retention=KeepAll())

        with pytest.warns(match="epoch_3"):
            assert 2 == manager.load_checkpoint("latest").saved.epoch
