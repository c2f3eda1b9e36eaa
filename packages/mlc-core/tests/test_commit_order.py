"""The order of the calls that make a commit durable: what a power cut on one file system cannot tell apart."""

import os
import re
from pathlib import Path

import pytest

from mlc_core import CheckpointManager, open_storage


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Every sync and rename, in order, with paths relative to the test's directory and random names taken out."""
    made, fsync, rename = [], os.fsync, os.rename

    def plain(path):
        return re.sub(r"\.mlc/(staging|trash)/\w+", r".\1", str(Path(path).relative_to(tmp_path)))

    def note_fsync(descriptor):
        made.append(f"sync {plain(os.path.realpath(f'/proc/self/fd/{descriptor}'))}")
        fsync(descriptor)

    def note_rename(source, target, **options):
        made.append(f"rename {plain(source)} {plain(target)}")
        rename(source, target, **options)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to see what is synced")
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    return made


def in_order(calls, *expected):
    """Say whether the *expected* calls are among *calls*, in this order."""
    rest = iter(calls)
    return all(one in rest for one in expected)


def test_commit_is_synced_in_order(calls, tmp_path):
    """Files, then the manifest, then the directory of both, then the rename, then the directory that has the name."""
    storage = open_storage(tmp_path / "unet")
    staging = storage.stage(3)
    staging.write("one.bin", 3, [b"one"])
    staging.write("two.bin", 3, [b"two"])
    calls.clear()
    staging.commit("epoch_1", b"{}")

    synced = ["sync unet/.staging/manifest.json", "sync unet/.staging", "sync unet"]
    assert synced == [one for one in calls if one.startswith("sync")]
    if any(one.startswith("rename") for one in calls):  # Python 3.10 renames by another way
        assert in_order(calls, "sync unet/.staging", "rename unet/.staging unet/epoch_1", "sync unet")


def test_every_file_is_synced_before_the_manifest(calls, tmp_path):
    """In a save of the manager, which removes nothing before all of it."""
    manager = CheckpointManager(tmp_path, "unet", max_checkpoints=1)
    manager.save_checkpoint(items={"a": 1}, epoch=1)
    calls.clear()
    manager.save_checkpoint(items={"a": 1}, epoch=2)

    assert in_order(
        calls,
        "sync unet/.staging/state.json",
        "sync unet/.staging/manifest.json",
        "sync unet/.staging",
        "sync unet",
    )
    if any(one.startswith("rename") for one in calls):
        assert in_order(calls, "rename unet/.staging unet/epoch_2", "sync unet", "rename unet/epoch_1 unet/.trash")


def test_new_directories_are_synced_into_their_parents(calls, tmp_path):
    """From the first one that was not there."""
    open_storage(tmp_path / "runs" / "today" / "unet").stage(0).discard()

    assert ["sync .", "sync runs", "sync runs/today"] == calls
