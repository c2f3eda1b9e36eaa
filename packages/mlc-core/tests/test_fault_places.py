"""Directories that mean harm: nothing outside of them is deleted, shared or waited for."""

import os
import subprocess
import sys

import pytest

from mlc_core import CheckpointManager, StorageError, open_checkpoint

SAVE = """
import sys
from mlc_core import CheckpointManager

CheckpointManager(sys.argv[1], "unet").save_checkpoint(items={"a": 1}, epoch=1)
"""


@pytest.fixture
def outside(tmp_path):
    """A directory of somebody's own, older than any grace period."""
    folder = tmp_path / "home" / "thesis"
    folder.mkdir(parents=True)
    (folder / "chapter").write_text("words")
    os.utime(folder, (1, 1))
    return folder


@pytest.mark.parametrize("link", [".mlc/trash", ".mlc/staging", ".mlc"])
def test_what_is_swept_is_never_outside(tmp_path, outside, faults, link):
    """A directory that was sent to us may hold links: to open a manager there must not delete what they lead to."""
    place = tmp_path / "runs" / "unet" / link
    place.parent.mkdir(parents=True)
    target = outside.parent
    if link == ".mlc":
        target = outside.parents[1] / "elsewhere"
        target.mkdir()
        outside.parent.rename(target / "trash")
    place.symlink_to(target)
    with faults.case("a directory made to harm"):
        manager = CheckpointManager(tmp_path / "runs", "unet")
        if not list(target.rglob("chapter")):
            raise faults.Lost(link)
        if link != ".mlc/trash":
            with pytest.raises(StorageError, match="leads elsewhere"):
                manager.save_checkpoint(items={"a": 1}, epoch=1)
        assert list(target.rglob("chapter"))


def test_pipe_in_place_of_the_history_makes_nobody_wait(tmp_path):
    """The save is made; that nothing could be written down is a warning or nothing."""
    (tmp_path / "unet" / ".mlc").mkdir(parents=True)
    os.mkfifo(tmp_path / "unet" / ".mlc" / "history.jsonl")
    command = [sys.executable, "-W", "ignore", "-c", SAVE, str(tmp_path)]
    subprocess.run(command, check=True, timeout=30)

    assert {"a": 1} == open_checkpoint(tmp_path / "unet" / "epoch_1").load()


def test_link_is_not_shared(tmp_path, faults):
    """A file that became a link to elsewhere is written anew; what it led to may go."""
    np = pytest.importorskip("numpy")
    arrays = {"weights": np.arange(100_000, dtype=np.uint32)}
    manager = CheckpointManager(tmp_path, "unet")
    file = manager.save_checkpoint(items=arrays, epoch=1) / "weights.safetensors"
    file.rename(tmp_path / "elsewhere")
    os.utime(tmp_path / "elsewhere", (1, 1))
    file.symlink_to(tmp_path / "elsewhere")
    with faults.case("a file to be shared was harmed"):
        path = manager.save_checkpoint(items=arrays, epoch=2)
        (tmp_path / "elsewhere").unlink()
        if arrays["weights"].tobytes() != open_checkpoint(path).load()["weights"].tobytes():
            raise faults.Silent(path)


def test_link_to_a_right_file_outside_is_refused(tmp_path):
    """Size and digest do not make it a file of this checkpoint."""
    path = CheckpointManager(tmp_path, "unet").save_checkpoint(items={"a": 1}, epoch=1)
    (path / "state.json").rename(tmp_path / "secret")
    (path / "state.json").symlink_to(tmp_path / "secret")

    with pytest.raises(StorageError, match="symbolic links"):
        open_checkpoint(path).load()


def test_corrupt_checkpoint_that_was_named_is_not_shared(tmp_path):
    """Who has seen that a file is rotten writes it again."""
    np = pytest.importorskip("numpy")
    arrays = {"weights": np.arange(100_000, dtype=np.uint32)}
    manager = CheckpointManager(tmp_path, "unet")
    file = manager.save_checkpoint(items=arrays, epoch=1) / "weights.safetensors"
    times, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ValueError, match="weights"):
        manager.load_checkpoint("epoch_1")
    manager.save_checkpoint(items=arrays, epoch=2)

    assert arrays["weights"].tobytes() == manager.load_checkpoint("epoch_2").state["weights"].tobytes()
