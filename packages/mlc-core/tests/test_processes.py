"""Several processes at one directory."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlc_core import CheckpointManager, open_storage
from mlc_core.retention import KeepAll

SAVE = Path(__file__).parent / "scripts" / "save.py"


def start(place, first, last, who):
    """Start a process that saves."""
    command = [sys.executable, str(SAVE), str(place), str(first), str(last), "--who", who]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("same_epochs", [False, True])
def test_processes_saving_at_once(tmp_path, leftovers, same_epochs):
    """None is lost, each has a number and a name of its own, and each is what its writer saved."""
    started = [
        start(tmp_path, 1 if same_epochs else 100 * number, 6 if same_epochs else 100 * number + 5, f"p{number}")
        for number in range(3)
    ]
    outputs = [process.communicate(timeout=60) for process in started]
    manager = CheckpointManager(tmp_path, "unet", retention=KeepAll())
    saved = manager.list_checkpoints()

    assert [""] * 3 == [errors for _, errors in outputs]
    assert list(range(1, 19)) == [one.sequence for one in saved]
    assert {line for output, _ in outputs for line in output.split()} == {
        str(manager.storage.location(one.name)) for one in saved
    }
    for output, who in zip((output for output, _ in outputs), ("p0", "p1", "p2"), strict=True):
        for line in output.split():
            assert who == manager.load_checkpoint(line).state["who"]
    assert {"latest": saved[-1].name} == {"latest": manager.storage.pointers()["latest"]}
    assert [] == leftovers(tmp_path / "unet")


def test_reading_while_another_process_saves_and_prunes(tmp_path):
    """A reader finds a whole checkpoint at any time."""
    command = [sys.executable, str(SAVE), str(tmp_path), "1", "40", "--keep", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        seen = []
        while process.poll() is None:
            manager = CheckpointManager(tmp_path, "unet", retention=KeepAll())
            if manager.list_checkpoints():
                seen.append(manager.list_checkpoints()[-1].epoch)
            time.sleep(0.005)

    assert 0 == process.returncode
    assert seen == sorted(seen)
    assert [39, 40] == [one.epoch for one in CheckpointManager(tmp_path, "unet").list_checkpoints()]


def test_forked_child_does_not_hold_the_lock(tmp_path):
    """A worker that was forked while another thread saved does not keep everybody out for its whole life."""
    storage = open_storage(tmp_path)
    with storage.lock():
        process = subprocess.Popen(["sleep", "30"], pass_fds=_open_directories())
    taken = []

    def take():
        with open_storage(tmp_path).lock():
            taken.append(True)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(5)
    before_it_ended = list(taken)
    process.kill()
    process.wait()

    assert [True] == before_it_ended


def _open_directories():
    return [int(one.name) for one in list(Path("/proc/self/fd").iterdir()) if one.is_dir()]
