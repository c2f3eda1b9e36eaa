"""The power goes: what was committed is there afterwards, what was not is not, on a real file system.

An ext4 image is mounted, and shut down by the kernel without writing its journal, as a power cut would leave it.
"""

import fcntl
import os
import shutil
import struct
import subprocess

import pytest

from mlc_core import CheckpointManager, open_storage
from mlc_core.retention import KeepAll, KeepLatest

SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
WITHOUT_LOG = 2

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mkfs.ext4") is None, reason="a power cut needs root, loop mounts and mkfs.ext4"
)


def run(*command):
    """Run *command* and say whether it worked."""
    return not subprocess.run(command, check=False, capture_output=True).returncode


class Disk:
    """A disk of its own, whose power can be cut."""

    def __init__(self, base):
        self.image, self.mount = base / "disk.img", base / "disk"

    def begin(self):
        """Make it and mount it; skip where this machine does not let us."""
        self.mount.mkdir()
        with self.image.open("wb") as file:
            file.truncate(32 << 20)
        if not run("mkfs.ext4", "-q", "-F", self.image) or not run("mount", "-o", "loop", self.image, self.mount):
            pytest.skip("loop mounts are not to be had here: no power was cut in this run")

    def cut(self):
        """Cut the power, and switch it on again."""
        descriptor = os.open(self.mount, os.O_RDONLY)
        fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_LOG))
        os.close(descriptor)
        assert run("umount", self.mount)
        assert run("mount", "-o", "loop", self.image, self.mount)


@pytest.fixture
def disk(tmp_path):
    """A disk whose power can be cut."""
    found = Disk(tmp_path)
    found.begin()
    yield found
    run("umount", "-l", found.mount)


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
    disk.cut()

    assert not (disk.mount / "file").exists()


def test_first_checkpoint_in_new_directories_survives(disk):
    """Also the names of the directories that were made for it."""
    place = disk.mount / "runs" / "today"
    save(CheckpointManager(place, "unet"), 1)
    disk.cut()

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
    disk.cut()

    assert [1, 2] == epochs(disk.mount)
    assert "epoch_1" == manager.storage.pointers()["final"]


def test_commit_of_the_storage_alone_survives(disk):
    """Nothing that comes after it is needed."""
    storage = open_storage(disk.mount / "unet")
    staging = storage.stage(3)
    staging.write("one.bin", 3, [b"one"])
    staging.commit("epoch_1", b"{}")
    disk.cut()

    assert b"one" == bytes(storage.read("epoch_1", "one.bin"))
    assert b"{}" == bytes(storage.read("epoch_1", "manifest.json"))


def test_replaced_is_gone_only_when_the_new_one_is_durable(disk):
    """Retention removes after the commit."""
    manager = CheckpointManager(disk.mount, "unet", retention=KeepLatest())
    for epoch in (1, 2, 3):
        save(manager, epoch)
    disk.cut()

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
    disk.cut()

    assert [1] == epochs(disk.mount)
