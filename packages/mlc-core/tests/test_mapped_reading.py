"""Reading by mapping: quick, private, and free of the file as soon as the tensors are gone."""

import errno
import gc
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

from mlc_core import (  # noqa: E402
    CheckpointManager,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    StorageError,
    open_checkpoint,
)
from mlc_core.retention import KeepLatest  # noqa: E402
from mlc_core.storage.removal import wait_until_deleted  # noqa: E402

LONG = 60  # seconds; nobody waits for them unless something hangs
LARGE = 300_000  # bytes; what is mapped begins at 65536


@pytest.fixture
def torch():
    """The library, where it is installed."""
    return pytest.importorskip("torch")


@pytest.fixture
def saved(tmp_path, torch):
    """A checkpoint with a large model and a large optimizer, and what they were."""
    torch.manual_seed(0)
    items = {
        name: {"w": torch.randn(300, 300), "small": torch.tensor(3.5), "empty": torch.empty(0, 2)}
        for name in ("model", "optimizer")
    }
    path = CheckpointManager(tmp_path, "unet").save_checkpoint(items=items, epoch=1)
    return path, items


def maps_of(path):
    """Return how many files below *path* this process has mapped, removed ones among them."""
    return sum(str(path) in line for line in Path("/proc/self/maps").read_text().splitlines())


def descriptors_of(path):
    """Return how many files below *path* this process has open."""
    return sum(str(path) in str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink())


def spoil(file, place=-1):
    """Change one byte of *file*."""
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_writing_to_a_tensor_does_not_reach_the_file(saved, torch):
    """Nor another reader's tensors; the checkpoint stays what it was."""
    path, items = saved
    first, second = (open_checkpoint(path).load(only="model")["model"] for _ in range(2))
    for tensor in first.values():
        tensor.fill_(7)

    open_checkpoint(path).verify()
    assert [] == [name for name, tensor in items["model"].items() if not torch.equal(tensor, second[name])]
    assert 7 == first["w"].mean()


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("verify", [False, True])
def test_tensors_survive_the_removal_of_their_checkpoint(saved, torch, verify, copy):
    """By retention or by hand, read or not before that."""
    path, items = saved
    state = open_checkpoint(path).load(verify=verify, copy=copy)
    shutil.rmtree(path)

    for item, tensors in items.items():
        assert [] == [name for name, tensor in tensors.items() if not torch.equal(tensor, state[item][name])]


def test_space_is_free_once_the_tensors_are_gone(saved):
    """Of each file separately: nothing is mapped or open any more."""
    path, _ = saved
    state = open_checkpoint(path).load()
    assert 2 == maps_of(path)
    weights = state["model"]["w"]
    del state
    gc.collect()
    assert 1 == maps_of(path)
    del weights
    gc.collect()

    assert (0, 0) == (maps_of(path), descriptors_of(path))


def test_part_of_a_file_keeps_all_of_it_mapped_and_no_more(saved, torch):
    """A view of one tensor is enough."""
    path, items = saved
    row = open_checkpoint(path).load()["model"]["w"][17]
    gc.collect()

    assert 1 == maps_of(path)
    assert torch.equal(items["model"]["w"][17], row)


def test_copies_need_no_file(saved):
    """They have memory of their own at once."""
    path, items = saved
    state = open_checkpoint(path).load(copy=True)

    assert (0, 0) == (maps_of(path), descriptors_of(path))
    assert list(items["model"]) == list(state["model"])


def test_objects_that_were_loaded_keep_no_file(tmp_path, torch):
    """Model and optimizer have their own memory, so that retention frees what they came from."""
    model = torch.nn.Linear(300, 300)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(300)).sum().backward()
    optimizer.step()
    CheckpointManager(tmp_path, "unet").save_checkpoint(model, optimizer, epoch=1)
    manager = CheckpointManager(tmp_path, "unet", retention=KeepLatest())
    manager.load_checkpoint("latest", model, optimizer)
    gc.collect()
    assert 0 == maps_of(tmp_path)

    result = manager.load_checkpoint("latest", model, optimizer)
    manager.save_checkpoint(model, optimizer, epoch=2)
    wait_until_deleted()
    assert torch.equal(model.weight, result.state["model"]["weight"])


@pytest.mark.parametrize("how", ["changed", "removed", "a directory", "a pipe"])
def test_other_files_are_not_read(saved, torch, how):
    """What only one item is asked for depends on no other one."""
    path, items = saved
    file = path / "optimizer.safetensors"
    if how == "changed":
        spoil(file)
    else:
        file.unlink()
    if how == "a directory":
        file.mkdir()
    if how == "a pipe":
        os.mkfifo(file)
    state = open_checkpoint(path).load(only="model")

    assert ["model"] == list(state)
    assert torch.equal(items["model"]["w"], state["model"]["w"])
    with pytest.raises((CorruptCheckpointError, StorageError), match=r"optimizer\.safetensors"):
        open_checkpoint(path).load()
    with pytest.raises(CheckpointNotFoundError, match="holds no ema; it holds model, optimizer"):
        open_checkpoint(path).load(only="ema")


def test_manager_reads_only_what_is_asked_for(tmp_path, torch):
    """And loads it, whatever became of the rest."""
    model, other = torch.nn.Linear(300, 300), torch.nn.Linear(300, 300)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(300)).sum().backward()
    optimizer.step()
    manager = CheckpointManager(tmp_path, "unet")
    path = manager.save_checkpoint(model, optimizer, epoch=1)
    (path / "optimizer.safetensors").unlink()
    manager.load_checkpoint("latest", other, only="model")

    assert torch.equal(model.weight, other.weight)


@pytest.mark.parametrize("place", [0, 9, 4096, LARGE, -1])
def test_any_changed_byte_is_found_unless_nobody_looks(saved, place):
    """`verify=False` takes what is there, if it can be read at all."""
    path, _ = saved
    spoil(path / "model.safetensors", place)

    with pytest.raises(CorruptCheckpointError, match=r"model\.safetensors was changed after it was committed"):
        open_checkpoint(path).load()
    if place >= 4096 or place < 0:
        assert ["model", "optimizer"] == list(open_checkpoint(path).load(verify=False))


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("length", [0, 7, 65_535, 65_536, LARGE, -1])
def test_truncated_file_is_corrupt(saved, length, verify):
    """Whether digests are asked for or not, and no signal ends the process."""
    path, _ = saved
    file = path / "model.safetensors"
    os.truncate(file, length if length >= 0 else file.stat().st_size - 1)

    with pytest.raises(
        CorruptCheckpointError, match=r"model\.safetensors has [\d,]+ bytes where [\d,]+ were committed"
    ):
        open_checkpoint(path).load(verify=verify)


def test_sector_that_cannot_be_read_is_an_error(saved, monkeypatch):
    """A mapped file would answer with a signal: its pages are asked for first."""
    path, _ = saved

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("mlc_core.memory._page_in", fail)
    with pytest.raises(StorageError, match=r"model\.safetensors cannot be read \(Input/output error\)"):
        open_checkpoint(path).verify()


def test_system_that_cannot_page_in_ahead_reads_all_the_same(saved, monkeypatch):
    """It is tried once for each file."""
    path, items = saved
    asked = []
    monkeypatch.setattr("mlc_core.memory._page_in", lambda *_: asked.append(1))
    open_checkpoint(path).verify()

    assert len(items) == len(asked)


def test_readers_do_not_disturb_each_other(saved, torch):
    """Several threads read, write to what they have, and remove nothing."""
    path, items = saved
    troubles = []

    def read():
        for _ in range(10):
            found = open_checkpoint(path).load()["model"]["w"]
            if not torch.equal(found, items["model"]["w"]):
                troubles.append("changed")
            found.zero_()

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)

    assert [] == troubles
    gc.collect()
    assert 0 == maps_of(path)


def test_arrays_have_their_own_memory(tmp_path):
    """NumPy's own functions write to arrays that they were given."""
    array = np.arange(LARGE, dtype=np.uint8)
    path = CheckpointManager(tmp_path, "unet").save_checkpoint(items={"a": array}, epoch=1)
    found = open_checkpoint(path).load()["a"]
    found += 1
    gc.collect()

    assert 0 == maps_of(path)
    open_checkpoint(path).verify()


def test_committed_files_may_be_read_only(saved, torch):
    """A shared directory of checkpoints often is."""
    path, items = saved
    for file in path.iterdir():
        file.chmod(stat.S_IRUSR)
    state = open_checkpoint(path).load()
    state["model"]["w"] += 1

    assert torch.equal(items["model"]["w"] + 1, state["model"]["w"])
