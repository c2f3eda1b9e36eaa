"""The power goes: what was committed is there afterwards, what was not is not, on a real file system.

An image of ext4, and one of xfs, is mounted, and shut down by the kernel without writing its journal, as a power cut
would leave it.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlc_core import CheckpointManager, open_storage
from mlc_core.retention import KeepAll, KeepLatest

SAVE = Path(__file__).parent / "scripts" / "save.py"
LARGE = 2_500_000


@pytest.fixture(params=["ext4", "xfs"])
def disk(request, disks):
    """A disk whose power can be cut."""
    return disks(request.param)


def epochs(place):
    """Return the epochs that are there, each loaded."""
    manager = CheckpointManager(place, "unet", retention=KeepAll())
    return [manager.load_checkpoint(one.name).state["epoch"] for one in manager.list_checkpoints()]


def save(manager, epoch):
    """Save *epoch*."""
    manager.save_checkpoint(items={"epoch": epoch, "data": b"x" * 300_000}, epoch=epoch)


def test_negative_control(disk):
    """A file that nobody synced does not survive: the power is really cut."""
    (disk.mount / "file").write_bytes(b"x" * 300_000)
    disk.cut_and_switch_on()

    assert not (disk.mount / "file").exists()


def test_first_checkpoint_in_new_directories_survives(disk):
    """Also the names of the directories that were made for it."""
    place = disk.mount / "runs" / "today"
    save(CheckpointManager(place, "unet"), 1)
    disk.cut_and_switch_on()

    assert [1] == epochs(place)


def test_committed_survives_and_uncommitted_is_not_there(disk):
    """The power goes in the middle of the next save."""
    manager = CheckpointManager(disk.mount, "unet", retention=KeepAll())
    for epoch in (1, 2):
        save(manager, epoch)
    manager.set_pointer("final", "epoch_1")
    staging = manager.storage.stage(10)
    staging.write("state.json", 10, [b"0123456789"])
    os.close(staging._lock)  # or the dead disk could not be taken out
    disk.cut_and_switch_on()

    assert [1, 2] == epochs(disk.mount)
    assert "epoch_1" == manager.storage.pointers()["final"]


def test_commit_of_the_storage_alone_survives(disk):
    """Nothing that comes after it is needed."""
    storage = open_storage(disk.mount / "unet")
    staging = storage.stage(3)
    staging.write("one.bin", 3, [b"one"])
    staging.commit("epoch_1", b"{}")
    disk.cut_and_switch_on()

    assert b"one" == bytes(storage.read("epoch_1", "one.bin"))
    assert b"{}" == bytes(storage.read("epoch_1", "manifest.json"))


def test_replaced_is_gone_only_when_the_new_one_is_durable(disk):
    """Retention removes after the commit."""
    manager = CheckpointManager(disk.mount, "unet", retention=KeepLatest())
    for epoch in (1, 2, 3):
        save(manager, epoch)
    disk.cut_and_switch_on()

    assert [3] == epochs(disk.mount)
    save(CheckpointManager(disk.mount, "unet"), 4)
    assert [3, 4] == epochs(disk.mount)


def test_rename_that_was_not_synced_leaves_the_old_ones(disk, monkeypatch):
    """The power goes between the rename and the sync of the directory: the old state, whole."""
    manager = CheckpointManager(disk.mount, "unet", retention=KeepAll())
    save(manager, 1)
    root = str(disk.mount / "unet")
    fsync = os.fsync

    def skip_the_root(descriptor):
        if os.path.realpath(f"/proc/self/fd/{descriptor}") != root:
            fsync(descriptor)

    monkeypatch.setattr(os, "fsync", skip_the_root)
    save(manager, 2)
    disk.cut_and_switch_on()

    assert [1] == epochs(disk.mount)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["here", "thread", "process"])
def test_power_goes_at_any_moment(disk, faults, epochs_in, how):
    """What a save has returned is there and equal, after cut upon cut in runs of large and incremental saves.

    Two are kept, and the first is pinned, so that files are removed and shared all the time.
    """
    chance = random.Random(f"{disk.kind} {how}")
    place, campaign = disk.mount / "runs", f"power cut on {disk.kind}"
    told, first = [], 1
    for _ in range(60 if faults.thorough else 2):
        options = ["--keep", "3", "--how", how, "--large", LARGE, *(["--pin"] if first == 1 else [])]
        command = [str(one) for one in (sys.executable, SAVE, place, first, first + 200, *options)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            lines = [process.stdout.readline()]  # it takes a second to begin
            time.sleep(chance.uniform(0, 0.6))
            disk.cut()
            process.kill()
            lines += process.stdout.read().split()
        with faults.case(campaign):
            told = [*told, *(int(line.split("_")[-1]) for line in lines if line.strip())]
            disk.replace()
            found = epochs_in(place, large=LARGE)
            if told and not ({1, told[-1]} <= set(found) and found[-1] in {told[-1], told[-1] + 1}):
                raise faults.Lost(told, found)
            first = found[-1] + 1 if found else 1
            told = found
    assert not found or found[-1] > 2
