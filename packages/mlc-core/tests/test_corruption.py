"""Whatever is changed, torn or lost on disk: never a silent wrong value."""

import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_core import (
    CheckpointManager,
    CheckpointReader,
    CheckpointWarning,
    ConfigurationError,
    CorruptCheckpointError,
    FileRecord,
    StorageError,
    TensorBytes,
    open_checkpoint,
)
from mlc_core.retention import KeepAll
from mlc_core.serializers import Safetensors
from mlc_core.storage import LocalStorage
from mlc_hooks import UnknownNameError

PLACES = st.floats(0, 1, exclude_max=True)  # in a file, whose length changes with the clock's digits
STATE = {"numbers": list(range(40)), "text": "weights", "pair": (1.5, None)}


@pytest.fixture
def shelf(tmp_path):
    """A directory with two checkpoints of known content."""
    manager = CheckpointManager(tmp_path, "unet", retention=KeepAll())
    for epoch in (1, 2):
        manager.save_checkpoint(items={"data": {**STATE, "epoch": epoch}}, epoch=epoch)
    return tmp_path


def content(epoch):
    """Return what the checkpoint of *epoch* holds."""
    return {"data": {**STATE, "epoch": epoch}}


@given(st.data())
def test_any_flipped_bit_is_found(tmp_path_factory, same, faults, data):
    """In any file: loading it by name is an error, and loading the latest is the one before, with a warning."""
    place = tmp_path_factory.mktemp("flip")
    manager = CheckpointManager(place, "unet", retention=KeepAll())
    for epoch in (1, 2):
        path = manager.save_checkpoint(items={"data": {**STATE, "epoch": epoch}}, epoch=epoch)
    file = data.draw(st.sampled_from(sorted(path.iterdir())))
    changed = bytearray(file.read_bytes())
    changed[int(data.draw(PLACES) * len(changed))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(changed)

    with faults.case("one flipped bit"):
        with pytest.raises(CorruptCheckpointError, match=f"epoch_2/{file.name}"):
            CheckpointManager(place, "unet").load_checkpoint("epoch_2")
        with pytest.raises(CorruptCheckpointError, match=f"epoch_2/{file.name}"):
            open_checkpoint(path).load()
        with pytest.warns(
            CheckpointWarning, match=rf"loading .*epoch_1, and not what cannot be used: .*epoch_2/{file.name}"
        ):
            found = CheckpointManager(place, "unet").load_checkpoint("latest")
        assert same(content(1), dict(found.state))
        assert len(found.passed_over) == 1


@pytest.mark.parametrize("file", ["state.json", "manifest.json"])
@pytest.mark.parametrize("left", [0, 1, -1])
def test_truncated_file_is_found(shelf, same, file, left):
    """Empty, one byte, all but one byte."""
    path = shelf / "unet" / "epoch_2" / file
    path.write_bytes(path.read_bytes()[:left])

    with pytest.raises(CorruptCheckpointError, match=f"epoch_2/{file}"):
        CheckpointManager(shelf, "unet").load_checkpoint("epoch_2")
    with pytest.warns(CheckpointWarning, match=f"epoch_2/{file}"):
        assert same(content(1), dict(CheckpointManager(shelf, "unet").load_checkpoint().state))


def test_missing_file_is_found(shelf):
    """It is named, with what can be done."""
    (shelf / "unet" / "epoch_2" / "state.json").unlink()

    with pytest.raises(CorruptCheckpointError, match=r"epoch_2/state\.json is missing; `mlc checkpoints repair` may"):
        CheckpointManager(shelf, "unet").load_checkpoint("epoch_2")


def test_without_a_manifest_there_is_no_checkpoint(shelf):
    """A directory that was never committed, or whose manifest is gone, is not listed and not in the way."""
    (shelf / "unet" / "epoch_2" / "manifest.json").unlink()
    manager = CheckpointManager(shelf, "unet")

    assert ["epoch_1"] == [one.name for one in manager.list_checkpoints()]
    assert manager.save_checkpoint(items={"a": 1}, epoch=2) == shelf / "unet" / "epoch_2_r2"


def test_damage_is_not_believed_to_be_healed_by_verify_false(shelf):
    """Without verification sizes are still held against the manifest."""
    path = shelf / "unet" / "epoch_2" / "state.json"
    path.write_bytes(path.read_bytes() + b" ")

    with pytest.raises(CorruptCheckpointError, match=r"has \d+ bytes where \d+ were committed"):
        CheckpointManager(shelf, "unet").load_checkpoint("epoch_2", verify=False)


def test_unverified_json_that_is_torn_is_corrupt(shelf):
    """Whoever opts out of digests gets a typed error all the same."""
    path = shelf / "unet" / "epoch_2" / "state.json"
    path.write_bytes(b"[" * path.stat().st_size)

    with pytest.raises(CorruptCheckpointError, match=r"state\.json"):
        open_checkpoint(path.parent).load(verify=False)
    path.write_bytes(b'{"other":1}'.ljust(path.stat().st_size))
    with pytest.raises(CorruptCheckpointError, match=r"state\.json: item 'data' cannot be read: 'data'"):
        open_checkpoint(path.parent).load(verify=False)


def test_living_manager_sees_damage_and_repair(shelf):
    """What is done by hand while it runs is seen at the next look."""
    manager = CheckpointManager(shelf, "unet", retention=KeepAll())
    manifest = shelf / "unet" / "epoch_2" / "manifest.json"
    sound = manifest.read_bytes()
    manifest.unlink()
    manifest.write_bytes(sound[:-3])
    damaged = manager.list_checkpoints(), manager.get_checkpoint_summary()["damaged"]
    manifest.unlink()
    manifest.write_bytes(sound)

    assert ((1, ["epoch_2"])) == (len(damaged[0]), damaged[1])
    assert ["epoch_1", "epoch_2"] == [one.name for one in manager.list_checkpoints()]


def test_damaged_checkpoint_counts_for_nothing_and_is_kept(shelf):
    """Retention neither counts nor removes it, and its name is not given again."""
    (shelf / "unet" / "epoch_2" / "manifest.json").write_text("torn")
    manager = CheckpointManager(shelf, "unet", max_checkpoints=1)
    manager.save_checkpoint(items={"a": 1}, epoch=2)

    assert ["epoch_2_r2"] == [one.name for one in manager.list_checkpoints()]
    assert (shelf / "unet" / "epoch_2").is_dir()


def test_checkpoint_renamed_by_hand_is_known_by_its_new_name(shelf, same):
    """A directory is complete by itself: it may be moved and copied."""
    (shelf / "unet" / "epoch_2").rename(shelf / "unet" / "the_good_one")
    shutil.copytree(shelf / "unet" / "epoch_1", shelf / "elsewhere")
    manager = CheckpointManager(shelf, "unet")

    assert ["epoch_1", "the_good_one"] == [one.name for one in manager.list_checkpoints()]
    assert same(content(2), dict(manager.load_checkpoint("the_good_one").state))
    assert same(content(1), open_checkpoint(shelf / "elsewhere").load())


# ---------------------------------------------------------------------- what cannot be read, or means harm


def test_unreadable_manifest_does_not_hide_the_others(shelf, monkeypatch):
    """A bad sector under one checkpoint costs that one, for as long as it is there."""
    read = LocalStorage.read

    def fail(self, entry, file):
        if entry == "epoch_2":
            msg = "Input/output error"
            raise StorageError(msg)
        return read(self, entry, file)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "read", fail)
        manager = CheckpointManager(shelf, "unet", retention=KeepAll())
        assert ["epoch_2"] == manager.get_checkpoint_summary()["damaged"]
        with pytest.warns(CheckpointWarning, match=r"epoch_2/manifest\.json cannot be read: Input/output error"):
            assert 1 == manager.load_checkpoint().saved.epoch
    assert 2 == manager.load_checkpoint().saved.epoch


def test_unreadable_files_are_passed_over(shelf, monkeypatch):
    """A checkpoint that the disk does not give back is no worse than a corrupt one; if all are, that is the error."""
    read = LocalStorage.read

    def fail(self, entry, file):
        if file == "state.json" and entry in broken:
            msg = f"{entry}: Input/output error"
            raise StorageError(msg)
        return read(self, entry, file)

    monkeypatch.setattr(LocalStorage, "read", fail)
    manager, broken = CheckpointManager(shelf, "unet", retention=KeepAll()), {"epoch_2"}
    with pytest.warns(CheckpointWarning, match="epoch_2: Input/output error"):
        assert 1 == manager.load_checkpoint().saved.epoch
    broken = {"epoch_1", "epoch_2"}
    with pytest.raises(StorageError, match="epoch_2: Input/output error; epoch_1: Input/output error"):
        manager.load_checkpoint()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
@pytest.mark.parametrize("file", ["state.json", "manifest.json"])
def test_what_is_no_plain_file_is_refused_at_once(shelf, make, file):
    """A pipe in place of a file would make a reader wait for ever."""
    path = shelf / "unet" / "epoch_2" / file
    path.unlink()
    make(path)

    with pytest.raises((StorageError, CorruptCheckpointError), match=f"{file}.* is no plain file"):
        CheckpointManager(shelf, "unet").load_checkpoint("epoch_2")
    with pytest.warns(CheckpointWarning, match="is no plain file"):
        assert 1 == CheckpointManager(shelf, "unet").load_checkpoint().saved.epoch


def test_manifest_that_leads_in_circles_is_damaged(shelf):
    """A link to itself cannot even be looked at; the others are none the worse."""
    manifest = shelf / "unet" / "epoch_2" / "manifest.json"
    manifest.unlink()
    manifest.symlink_to("manifest.json")
    manager = CheckpointManager(shelf, "unet")

    assert ["epoch_2"] == manager.get_checkpoint_summary()["damaged"]
    with pytest.raises(CorruptCheckpointError, match=r"epoch_2/manifest\.json cannot be read: .*symbolic links"):
        manager.load_checkpoint("epoch_2")


def test_file_in_place_of_a_directory_is_missing(shelf):
    """Not an error of its own kind."""
    manager = CheckpointManager(shelf, "unet")
    saved = manager.list_checkpoints()[1]
    shutil.rmtree(shelf / "unet" / "epoch_2")
    (shelf / "unet" / "epoch_2").touch()

    with pytest.raises(CorruptCheckpointError, match="is missing"):
        CheckpointReader(manager.storage, saved).verify()


def test_manifest_without_a_state_is_corrupt(shelf):
    """As one would be that somebody made by hand."""
    manager = CheckpointManager(shelf, "unet")
    saved = manager.list_checkpoints()[0]
    hollow = type(saved)(**{**{name: getattr(saved, name) for name in FIELDS}, "files": ()})

    with pytest.raises(CorruptCheckpointError, match=r"the manifest lists no state\.json"):
        CheckpointReader(manager.storage, hollow).load()


FIELDS = ("model", "name", "id", "sequence", "created_at", "items", "files")


def test_files_of_unknown_serializers_say_which_is_missing(shelf):
    """Not corrupt: a plugin is not installed."""
    manager = CheckpointManager(shelf, "unet")
    saved = manager.list_checkpoints()[0]
    foreign = FileRecord(name="data.zarr", size=2, xxh3_128="0" * 32, serializer="zarr", item="data")
    (shelf / "unet" / "epoch_1" / "data.zarr").write_bytes(b"??")
    changed = type(saved)(**{**{name: getattr(saved, name) for name in FIELDS}, "files": (*saved.files, foreign)})

    with pytest.raises(UnknownNameError, match="Unknown serializer 'zarr'"):
        CheckpointReader(manager.storage, changed).load(verify=False)


def test_tensor_file_that_is_none_is_corrupt(shelf):
    """The file and the cause are named."""
    manager = CheckpointManager(shelf, "unet")
    saved = manager.list_checkpoints()[0]
    foreign = FileRecord(name="data.safetensors", size=2, xxh3_128="0" * 32, serializer="safetensors", item="data")
    (shelf / "unet" / "epoch_1" / "data.safetensors").write_bytes(b"??")
    changed = type(saved)(**{**{name: getattr(saved, name) for name in FIELDS}, "files": (*saved.files, foreign)})

    with pytest.raises(CorruptCheckpointError, match=r"data\.safetensors: 2 bytes are too few for a safetensors file"):
        CheckpointReader(manager.storage, changed).tensors("data")


def test_serializer_that_miscounts_is_found_before_the_commit(tmp_path, monkeypatch):
    """A file of another size than announced would be corrupt for ever."""
    np = pytest.importorskip("numpy")
    monkeypatch.setattr(Safetensors, "dump", lambda self, tensors: (10, [b"12345"]))
    manager = CheckpointManager(tmp_path, "unet")

    with pytest.raises(StorageError, match=r"data\.safetensors was announced with 10 bytes and given 5"):
        manager.save_checkpoint(items={"data": np.ones(2)}, epoch=1)
    assert () == manager.list_checkpoints()


def test_tensors_without_torch_say_what_to_install(monkeypatch):
    """A checkpoint is not corrupt because a package is not there."""
    from mlc_core.state.tree import decode

    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    for tree in ({"$tensor": "w"}, {"$dtype": "float32"}, {"$device": "cpu"}, {"$size": [1]}):
        with pytest.raises(ConfigurationError, match=r"holds values of torch; install it .*mlc-core\[torch\]"):
            decode(tree, {"w": TensorBytes("F32", (1,), b"1234")}, copy=True)
