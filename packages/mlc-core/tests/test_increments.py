"""What has not changed is not written again, what has is, and no checkpoint needs another one."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

np = pytest.importorskip("numpy")

from mlc_core import CheckpointManager, StorageError, open_checkpoint, open_storage  # noqa: E402
from mlc_core.memory import Spans  # noqa: E402
from mlc_core.retention import KeepAll, KeepLatest  # noqa: E402
from mlc_core.storage import LocalStorage  # noqa: E402

LARGE = 200_000  # bytes; what is worth a link begins at 65536


def manage(place, **options):
    """Open a manager that keeps everything."""
    return CheckpointManager(place, "unet", **{"retention": KeepAll(), **options})


def noise(seed, size=LARGE):
    """Return an array of *size* bytes that no other seed has."""
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def inode(path, file):
    """Return which file of the disk this is."""
    return (Path(path) / file).stat().st_ino


def allocated(root):
    """Return how many bytes the files below *root* have on the disk, each counted once."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            status = os.lstat(Path(folder, name))
            found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def test_unchanged_file_is_linked_and_a_changed_one_is_not(tmp_path):
    """Item by item; what is small is written."""
    manager, changing = manage(tmp_path), noise(1)
    items = {"still": {"a": noise(0)}, "changing": {"a": changing}, "small": {"a": noise(2, 100)}}
    paths = []
    for epoch in (1, 2, 3):
        changing[epoch] += 1
        paths.append(manager.save_checkpoint(items=items, epoch=epoch))

    assert 1 == len({inode(path, "still.safetensors") for path in paths})
    assert 3 == len({inode(path, "changing.safetensors") for path in paths})
    assert 3 == len({inode(path, "small.safetensors") for path in paths})
    for path in paths:
        open_checkpoint(path).verify()
    assert np.array_equal(noise(0), manager.load_checkpoint("epoch_3").state["still"]["a"])
    assert np.array_equal(changing, manager.load_checkpoint("epoch_3").state["changing"]["a"])


@pytest.mark.parametrize("background", ["thread", "process"])
def test_saves_of_all_kinds_link_to_each_other(tmp_path, background):
    """A save that waits finds what one in the background wrote, and the other way."""
    items = {"still": {"a": noise(0), "b": noise(1, 9)}, "other": {"a": noise(2)}}
    with manage(tmp_path, background=background) as manager:
        for epoch in (1, 2, 5):
            manager.async_save_checkpoint(items=items, epoch=epoch)
            manager.save_checkpoint(items=items, epoch=epoch + 10)
    found = sorted((tmp_path / "unet").glob("epoch_*"))

    assert 6 == len(found)
    assert 1 == len({inode(path, "still.safetensors") for path in found})
    assert 1 == len({inode(path, "other.safetensors") for path in found})


def test_first_save_after_a_restart_links(tmp_path):
    """Nothing but the manifest is needed for that."""
    first = manage(tmp_path).save_checkpoint(items={"a": noise(0)}, epoch=1)
    second = manage(tmp_path).save_checkpoint(items={"a": noise(0)}, epoch=2)

    assert inode(first, "a.safetensors") == inode(second, "a.safetensors")


@pytest.fixture(scope="module")
def one_manager(tmp_path_factory):
    """A manager, and an array that it has just saved."""
    manager = manage(tmp_path_factory.mktemp("increments"), retention=KeepLatest())
    array = noise(0)
    manager.save_checkpoint(items={"a": array}, epoch=0)
    return manager, array


@given(st.integers(0, LARGE - 1), st.integers(1, 255))
def test_any_single_changed_byte_is_found(one_manager, place, change):
    """Wherever it is: a sketch may overlook it, the digest does not."""
    manager, array = one_manager
    array[place] ^= change
    path = manager.save_checkpoint(items={"a": array}, epoch=1)

    assert np.array_equal(array, open_checkpoint(path).load()["a"])


@given(st.integers(0, LARGE - 1), st.integers(1, 255))
def test_any_single_changed_byte_is_found_by_the_first_save(tmp_path_factory, place, change):
    """After a restart there is no sketch."""
    folder, array = tmp_path_factory.mktemp("restart"), noise(0)
    manage(folder).save_checkpoint(items={"a": array}, epoch=1)
    array[place] ^= change
    path = manage(folder).save_checkpoint(items={"a": array}, epoch=2)

    assert np.array_equal(array, open_checkpoint(path).load()["a"])
    assert np.array_equal(noise(0), open_checkpoint(folder / "unet" / "epoch_1").load()["a"])


def test_change_where_no_sketch_looks_is_found(tmp_path):
    """Each byte between the places that it looks at, all at once and one by one."""
    manager, array = manage(tmp_path), noise(0)
    manager.save_checkpoint(items={"a": array}, epoch=1)
    before = Spans([array.data]).sketch()
    unseen = [place for place in range(500, 1500) if changed_sketch(array, place) == before]
    for place in unseen[::100]:
        array[place] ^= 1
        path = manager.save_checkpoint(items={"a": array}, epoch=2)
        assert np.array_equal(array, open_checkpoint(path).load()["a"])

    assert 500 < len(unseen)


def changed_sketch(array, place):
    """Return the sketch of *array* with another byte at *place*."""
    array[place] ^= 1
    sketch = Spans([array.data]).sketch()
    array[place] ^= 1
    return sketch


def test_memory_links_too(memory_url):
    """Two checkpoints in memory have the same bytes, once."""
    manager = manage(memory_url)
    for epoch in (1, 2):
        manager.save_checkpoint(items={"a": noise(0), "b": noise(epoch)}, epoch=epoch)
    contents = [[manager.storage.content(f"epoch_{epoch}", f"{item}.safetensors") for epoch in (1, 2)] for item in "ab"]

    assert contents[0][0] is contents[0][1]
    assert contents[1][0] != contents[1][1]
    manager.storage.remove("epoch_1")
    open_checkpoint(f"{memory_url}/unet/epoch_2").verify()


# ---------------------------------------------------------------------- what must not be linked


@pytest.mark.parametrize("restart", [False, True])
def test_file_that_was_changed_in_place_is_not_linked_again(tmp_path, restart):
    """The next checkpoint is sound, whatever somebody did to the one before."""
    manager = manage(tmp_path)
    first = manager.save_checkpoint(items={"a": noise(0)}, epoch=1)
    with (first / "a.safetensors").open("r+b") as opened:
        opened.seek(5000)
        opened.write(b"damage")
    later = (first / "manifest.json").stat().st_mtime_ns + 10**9
    os.utime(first / "a.safetensors", ns=(later, later))
    second = (manage(tmp_path) if restart else manager).save_checkpoint(items={"a": noise(0)}, epoch=2)

    assert inode(first, "a.safetensors") != inode(second, "a.safetensors")
    open_checkpoint(second).verify()


def test_checkpoint_that_was_found_corrupt_is_not_linked_to(tmp_path):
    """Bits that fell over leave no date: whoever met them remembers."""
    manager = manage(tmp_path)
    for epoch in (1, 2):
        manager.save_checkpoint(items={"a": noise(epoch)}, epoch=epoch)
    file = tmp_path / "unet" / "epoch_2" / "a.safetensors"
    status, content = file.stat(), bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.warns(match="epoch_2/a.safetensors was changed"):
        manager.load_checkpoint("latest")

    open_checkpoint(manager.save_checkpoint(items={"a": noise(2)}, epoch=3)).verify()


@pytest.mark.parametrize("what", ["a.safetensors", "manifest.json", "."])
def test_what_cannot_be_linked_is_written(tmp_path, what):
    """A checkpoint that somebody removed, in whole or in part, between the decision and the link."""
    manager = manage(tmp_path)
    manager.save_checkpoint(items={"a": noise(0)}, epoch=1)
    real = LocalStorage.stage

    def stage(storage, size):
        gone = tmp_path / "unet" / "epoch_1" / what
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        return real(storage, size)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LocalStorage, "stage", stage)
        path = manager.save_checkpoint(items={"a": noise(0)}, epoch=2)

    open_checkpoint(path).verify()


@pytest.mark.parametrize("missing", ["manifest.json", "a.bin"])
def test_link_that_fails_leaves_the_name_free(tmp_path, missing):
    """The file can be written in its place."""
    storage = open_storage(tmp_path / "unet")
    staging = storage.stage(3)
    staging.write("a.bin", 3, [b"abc"])
    staging.commit("one", b"{}")
    (tmp_path / "unet" / "one" / missing).unlink()
    staging = storage.stage(3)
    with pytest.raises(StorageError):
        staging.link("a.bin", "one")
    staging.write("a.bin", 3, [b"abc"])
    staging.commit("two", b"{}")

    assert b"abc" == bytes(storage.read("two", "a.bin"))


def test_file_with_too_many_names_is_written_again(tmp_path, monkeypatch):
    """A file system gives a file so many names and no more."""
    manager = manage(tmp_path)
    first = manager.save_checkpoint(items={"a": noise(0)}, epoch=1)

    def refuse(*_, **__):
        raise OSError(31, "Too many links")

    monkeypatch.setattr(os, "link", refuse)
    second = manager.save_checkpoint(items={"a": noise(0)}, epoch=2)

    assert inode(first, "a.safetensors") != inode(second, "a.safetensors")
    open_checkpoint(second).verify()


# ---------------------------------------------------------------------- a life of links


class Increments(RuleBasedStateMachine):
    """Saves with changes, restarts, removals and prunings: every checkpoint that is there is what was saved."""

    folder = None

    def __init__(self):
        super().__init__()
        self.place = Path(type(self).folder, os.urandom(8).hex())
        self.manager = manage(self.place)
        self.arrays = {"a": noise(0), "b": noise(1), "c": noise(2, 9)}
        self.saved = {}
        self.epoch = 0

    @rule(item=st.sampled_from("abc"), place=st.integers(0, LARGE - 1))
    def train(self, item, place):
        """Change one byte."""
        array = self.arrays[item]
        array[place % len(array)] ^= 1

    @rule(item=st.sampled_from("ab"), size=st.integers(LARGE // 2, LARGE))
    def resize(self, item, size):
        """Shrink or grow."""
        self.arrays[item] = np.resize(self.arrays[item], size)

    @rule(background=st.booleans())
    def save(self, background):
        """Save all."""
        self.epoch += 1
        save = self.manager.async_save_checkpoint if background else self.manager.save_checkpoint
        save(items=self.arrays, epoch=self.epoch)
        self.manager.wait()
        self.saved[f"epoch_{self.epoch}"] = {item: array.copy() for item, array in self.arrays.items()}

    @rule()
    def restart(self):
        """Go on with another manager."""
        self.manager.close()
        self.manager = manage(self.place)

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), by_hand=st.booleans())
    def remove(self, data, by_hand):
        """Remove any checkpoint."""
        name = data.draw(st.sampled_from(sorted(self.saved)))
        if by_hand:
            shutil.rmtree(self.place / "unet" / name)
        else:
            self.manager.storage.remove(name)
        del self.saved[name]

    @precondition(lambda self: self.saved)
    @rule()
    def prune(self):
        """Keep the newest only."""
        CheckpointManager(self.place, "unet", retention=KeepLatest()).prune()
        newest = max(self.saved, key=lambda name: int(name.split("_")[1]))
        self.saved = {newest: self.saved[newest]}

    @invariant()
    def all_is_there(self):
        """Whatever happened to others."""
        found = self.manager.list_checkpoints()
        assert sorted(self.saved) == sorted(one.name for one in found)
        for name, arrays in self.saved.items():
            state = open_checkpoint(self.place / "unet" / name).load()
            assert all(np.array_equal(array, state[item]) for item, array in arrays.items())

    def teardown(self):
        """End."""
        self.manager.close()
        shutil.rmtree(self.place, ignore_errors=True)


def test_removing_any_checkpoint_harms_no_other(tmp_path):
    """A life drawn at random, on a real file system."""
    machine = type("Machine", (Increments,), {"folder": tmp_path})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


# ---------------------------------------------------------------------- frozen and trained


@pytest.fixture
def torch():
    """The library, where it is installed."""
    return pytest.importorskip("torch")


def make_model(torch):
    """Return a model of which nine tenths are a backbone with a batch norm."""
    torch.manual_seed(0)
    nn = torch.nn
    backbone = nn.Sequential(nn.Linear(600, 600), nn.BatchNorm1d(600), nn.Linear(600, 600))
    return nn.ModuleDict({"backbone": backbone, "head": nn.Linear(600, 130)})


def freeze(model, *, frozen=True):
    """Let the backbone train, or not."""
    for parameter in model["backbone"].parameters():
        parameter.requires_grad_(not frozen)


def step(torch, model):
    """Change what trains, and what counts on in a frozen backbone."""
    model["head"](model["backbone"](torch.randn(8, 600))).square().mean().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter -= 0.01 * parameter.grad
                parameter.grad = None


def check_loads(torch, path, state):
    """Hold a checkpoint against a state."""
    found = open_checkpoint(path).load()["model"]
    assert list(state) == list(found)
    assert [] == [name for name, tensor in state.items() if not torch.equal(tensor, found[name])]


@pytest.mark.parametrize("way", ["save", "thread", "process", "lazy"])
def test_frozen_backbone_costs_its_bytes_once(tmp_path, torch, way):
    """Ten checkpoints of a model of which nine tenths are frozen cost about two, not ten."""
    model = make_model(torch)
    freeze(model)
    whole = sum(one.nbytes for one in model.state_dict().values())
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    states = []
    with manage(tmp_path, background=way if way == "process" else "thread") as manager:
        for epoch in range(10):
            step(torch, model)
            states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
            if way == "save":
                manager.save_checkpoint(model, optimizer, epoch=epoch)
            else:
                manager.async_save_checkpoint(model, optimizer, epoch=epoch, lazy=way == "lazy").staged.result()

    assert 0.88 < sum(one.nbytes for one in model["backbone"].state_dict().values()) / whole < 0.92
    assert 1.8 * whole < allocated(tmp_path) < 2.2 * whole
    for epoch, state in enumerate(states):
        check_loads(torch, tmp_path / "unet" / f"epoch_{epoch}", state)


def test_backbone_that_trains_again_is_written_again(tmp_path, torch):
    """Frozen, trained, frozen again: each checkpoint is what the model was."""
    model, manager = make_model(torch), manage(tmp_path)
    states = []
    for epoch, frozen in enumerate([True, True, False, False, True, True, False, True]):
        freeze(model, frozen=frozen)
        step(torch, model)
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        manager.save_checkpoint(model, epoch=epoch)

    for epoch, state in enumerate(states):
        check_loads(torch, tmp_path / "unet" / f"epoch_{epoch}", state)


def test_buffers_of_a_frozen_backbone_are_with_what_trains(tmp_path, torch):
    """The batch norm counts on."""
    model = make_model(torch)
    freeze(model)
    path = manage(tmp_path).save_checkpoint(model, epoch=1)
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(path / "model-00001-of-00002.safetensors", "pt") as opened:
        frozen = set(opened.keys())
    parameters = {f"backbone.{name}" for name, _ in model["backbone"].named_parameters()}
    assert parameters == frozen


def test_frozen_parameter_that_is_changed_all_the_same_is_written(tmp_path, torch):
    """By hand, or by an optimizer that does not ask: its bytes decide, not what it says of itself."""
    model, manager = make_model(torch), manage(tmp_path)
    freeze(model)
    manager.save_checkpoint(model, epoch=1)
    with torch.no_grad():
        model["backbone"][0].weight[17, 23] += 1
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    check_loads(torch, manager.save_checkpoint(model, epoch=2), state)


def test_shards_open_in_other_tools(tmp_path, torch):
    """Each is a safetensors file, and the index says where each tensor is."""
    load_file = pytest.importorskip("safetensors.torch").load_file
    model = make_model(torch)
    freeze(model)
    path = manage(tmp_path).save_checkpoint(model, epoch=1)
    index = json.loads((path / "model.safetensors.index.json").read_text())
    found = {name: load_file(path / file)[name] for name, file in index["weight_map"].items()}
    state = model.state_dict()

    assert sorted(state) == sorted(found)
    assert [] == [name for name, tensor in state.items() if not torch.equal(tensor, found[name])]
    assert sum(tensor.nbytes for tensor in state.values()) == index["metadata"]["total_size"]


def test_tied_weights_between_frozen_and_trained(tmp_path, torch):
    """One weight in two places is one weight, and whichever place is frozen, it is saved as it is."""
    for frozen_first in (True, False):
        first, second = torch.nn.Linear(200, 200), torch.nn.Linear(200, 200)
        second.weight = torch.nn.Parameter(first.weight.data, requires_grad=frozen_first)  # the same memory
        first.weight.requires_grad_(not frozen_first)
        model, manager = torch.nn.ModuleList([first, second]), manage(tmp_path / str(frozen_first))
        for epoch in range(3):
            with torch.no_grad():
                first.weight += 1
            path = manager.save_checkpoint(model, epoch=epoch)
            check_loads(torch, path, model.state_dict())


@pytest.mark.parametrize("wrapper", ["DataParallel", "compile"])
def test_wrapped_model_is_frozen_all_the_same(tmp_path, torch, wrapper):
    """Names of parameters have a prefix there, the file has none."""
    model = make_model(torch)["backbone"]
    model[0].requires_grad_(False)
    wrapped = torch.nn.DataParallel(model) if wrapper == "DataParallel" else torch.compile(model, backend="eager")
    path = manage(tmp_path).save_checkpoint(wrapped, epoch=1)

    assert (path / "model-00001-of-00002.safetensors").exists()
    index = json.loads((path / "model.safetensors.index.json").read_text())["weight_map"]
    assert {"0.weight", "0.bias"} == {name for name, file in index.items() if file.startswith("model-00001")}


def test_model_without_anything_that_trains_is_one_file(tmp_path, torch):
    """And so is one without anything frozen."""
    model, manager = make_model(torch)["head"], manage(tmp_path)
    for epoch, trains in enumerate((False, True)):
        model.requires_grad_(trains)
        path = manager.save_checkpoint(model, epoch=epoch)
        assert ["manifest.json", "model.safetensors", "state.json"] == sorted(one.name for one in path.iterdir())
