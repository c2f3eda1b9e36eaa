"""Weights of real models, published and loaded again."""

import gc
import importlib
import json
import sys

import pytest

from mlc_registry import ConstructionError, PartialWeightsWarning, read_schema

torch = pytest.importorskip("torch")
files = pytest.importorskip("safetensors.torch")

MODULE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=4, *, tied=True, dropout=0.5):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.last = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(dropout)
        if tied:
            self.last.weight = self.first.weight

    def forward(self, x):
        return self.last(self.drop(self.norm(self.first(x))))


class Half(Net):
    def __init__(self):
        super().__init__()
        self.half()


class Remembering(Net):
    def __init__(self):
        super().__init__()
        self.seen = {}

    def get_extra_state(self):
        return self.seen

    def set_extra_state(self, state):
        self.seen = state


class Renamed(Net):
    def _load_from_state_dict(self, state, prefix, *rest):
        for name in [name for name in state if name.startswith("begin.")]:
            state["first." + name[6:]] = state.pop(name)
        super()._load_from_state_dict(state, prefix, *rest)


class Ghost(Net):
    def __init__(self):
        with torch.device("meta"):
            super().__init__()


class Dict:
    def load_state_dict(self, state):
        self.state = state
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A module with classes of models."""
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "sometorchnets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path / "libs")
    yield importlib.import_module("sometorchnets")
    del sys.modules["sometorchnets"]


@pytest.fixture
def trained(nets):
    """A model with values of its own."""
    torch.manual_seed(1)
    model = nets.Net()
    model(torch.randn(8, 4))
    return model


def assert_same(model, other):
    """Every tensor is the same, to the bit."""
    own, theirs = model.state_dict(), other.state_dict()
    assert list(own) == list(theirs)
    assert [] == [name for name, value in own.items() if not torch.equal(value, theirs[name])]


def save(model, path):
    """Write all tensors of a model, tied ones once, as the library does."""
    files.save_model(model, str(path))
    return path


def test_model_is_what_it_was(registry, nets, trained, tmp_path):
    """Tied weights are saved once and tied again; dropout is off, as whoever loads it wants to use it."""
    registry.register("net", "1.0.0", nets.Net, {"width": 4}, path=save(trained, tmp_path / "m.safetensors"))
    model = registry.load("net", allow=("sometorchnets",))

    assert_same(trained, model)
    assert model.last.weight is model.first.weight
    assert not model.training
    x = torch.randn(3, 4)
    assert torch.equal(model(x), trained.eval()(x))
    assert all(one.requires_grad for one in model.parameters())


def test_class_without_weights(registry, nets):
    """Is constructed anew, ready for use too."""
    registry.register("net", "1.0.0", nets.Net, {"width": 6})
    model = registry.load("net", model_cls=nets.Net)

    assert (6, False) == (model.first.in_features, model.training)


def test_shards(registry, nets, trained, tmp_path):
    """With the hub's index, and without."""
    folder = tmp_path / "sharded"
    folder.mkdir()
    state = {name: value for name, value in trained.state_dict().items() if name != "last.weight"}
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[:3], "model-00002-of-00002.safetensors": names[3:]}
    for name, held in parts.items():
        files.save_file({one: state[one] for one in held}, folder / name)
    registry.register("net", "1.0.0", nets.Net, path=folder)
    places = {one: name for name, held in parts.items() for one in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    registry.register("net", "1.1.0", nets.Net, path=folder)

    for version in ("1.0.0", "1.1.0"):
        assert_same(trained, registry.load("net", version, model_cls=nets.Net))


def save_checkpoint(model, folder, **options):
    """Save a checkpoint as training does, and return its path."""
    core = pytest.importorskip("mlc_core")
    with core.CheckpointManager(folder, "net", save_strategy="all", **options) as manager:
        path = manager.save_checkpoint(
            model, torch.optim.SGD(model.parameters(), lr=0.1), epoch=3, metrics={"dice": 0.9}
        )
    gc.collect()
    return path


def test_checkpoint(registry, nets, trained, tmp_path):
    """Tied weights are told by its state, whatever else lies in it; and the record says where it comes from."""
    path = save_checkpoint(trained, tmp_path / "checkpoints")
    published = registry.register("net", "1.0.0", nets.Net, path=path)

    assert_same(trained, registry.load("net", model_cls=nets.Net))
    assert (3, {"dice": 0.9}) == (published.tracking.epoch, published.tracking.metrics)
    assert set(read_schema(path)) == set(trained.state_dict())


def test_checkpoint_in_files_for_frozen_and_trained(registry, nets, trained, tmp_path):
    """A frozen half lies in a file of its own."""
    trained.norm.requires_grad_(False)
    path = save_checkpoint(trained, tmp_path / "checkpoints")
    assert (path / "model.safetensors.index.json").exists()
    registry.register("net", "1.0.0", nets.Net, path=path)

    assert_same(trained, registry.load("net", model_cls=nets.Net))


def test_tied_in_the_checkpoint_fits_an_untied_class(registry, nets, trained, tmp_path):
    """The state names both."""
    path = save_checkpoint(trained, tmp_path / "checkpoints")
    registry.register("net", "1.0.0", nets.Net, {"tied": False}, path=path)
    model = registry.load("net", model_cls=nets.Net)

    assert torch.equal(model.last.weight, trained.first.weight)
    assert model.last.weight is not model.first.weight


def test_state_that_is_no_tensor(registry, nets, tmp_path):
    """Comes back from a checkpoint where it is plain, and is refused by name where it is not."""
    model = nets.Remembering()
    model.seen = {"count": 3, "pair": (1, float("inf")), "kept": {1: torch.ones(2)}}
    registry.register("net", "1.0.0", nets.Remembering, path=save_checkpoint(model, tmp_path / "a"))
    loaded = registry.load("net", model_cls=nets.Remembering)
    assert (3, (1, float("inf"))) == (loaded.seen["count"], loaded.seen["pair"])
    assert torch.equal(torch.ones(2), loaded.seen["kept"][1])

    model.seen = {"device": torch.device("cpu")}
    registry.register("net", "2.0.0", nets.Remembering, path=save_checkpoint(model, tmp_path / "b"))
    with pytest.raises(ConstructionError, match=r"net 2\.0\.0: _extra_state cannot be restored here: it is a device"):
        registry.load("net", "2.0.0", model_cls=nets.Remembering)


def test_checkpoint_in_pieces_is_refused(registry, nets, trained, tmp_path):
    """With the way to make it whole."""
    path = save_checkpoint(trained, tmp_path / "checkpoints")
    manifest = json.loads((path / "manifest.json").read_text())
    copy = tmp_path / "pieces"
    copy.mkdir()
    manifest["files"].append({"name": "sharded.json", "item": None})
    (copy / "manifest.json").write_text(json.dumps(manifest))
    (copy / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes())
    layout = {"tensors": {"model": {"a": {"dtype": "F32", "shape": [3], "chunks": []}}}}
    (copy / "sharded.json").write_text(json.dumps(layout))
    registry.register("net", "1.0.0", nets.Net, path=copy)

    assert {"a": ("F32", (3,))} == read_schema(copy)
    with pytest.raises(ConstructionError, match="several ranks saved in pieces"):
        registry.load("net", model_cls=nets.Net)


def publish_state(registry, nets, state, tmp_path, model_cls=None):
    path = tmp_path / "m.safetensors"
    files.save_file(state, path)
    registry.register("net", "1.0.0", model_cls or nets.Net, path=path)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda state: state.pop("norm.weight"), r"norm\.weight is missing in the files"),
        (lambda state: state.update({"norm.wieght": state.pop("norm.weight")}), r"Did you mean 'norm\.wieght'\?"),
        (lambda state: state.update({"more": torch.ones(1)}), "more is unknown to the model"),
        (
            lambda state: state.update({"norm.weight": torch.ones(5)}),
            r"norm\.weight is \[5\] in the files and \[4\] in the model",
        ),
        (
            lambda state: state.update({"norm.weight": torch.ones(4, dtype=torch.float64)}),
            r"norm\.weight is torch\.float64 in the files, which torch\.float32 of the model cannot hold",
        ),
        (lambda state: state.update({"last.weight": torch.ones(4, 4)}), "is the same tensor as"),
    ],
)
def test_weights_that_do_not_fit(registry, nets, trained, tmp_path, change, part):
    """Each is named, with what is close; without strict, what fits is loaded, and a warning names the rest."""
    state = dict(trained.state_dict())
    state["last.weight"] = state["last.weight"].clone()
    change(state)
    publish_state(registry, nets, state, tmp_path)

    with pytest.raises(ConstructionError, match=part):
        registry.load("net", model_cls=nets.Net)
    with pytest.warns(PartialWeightsWarning, match=part):
        model = registry.load("net", model_cls=nets.Net, strict=False)
    assert torch.equal(model.first.bias, trained.first.bias)


def test_many_misfits_are_counted(registry, nets, trained, tmp_path):
    """A few are shown."""
    publish_state(registry, nets, {**trained.state_dict(), "last.weight": torch.ones(4, 4)} | {
        f"more.{number}": torch.ones(1) for number in range(20)
    }, tmp_path)  # fmt: skip

    with pytest.raises(ConstructionError, match="… and 15 more"):
        registry.load("net", model_cls=nets.Net)


def test_weights_of_another_model(registry, nets, tmp_path):
    """Are never loaded, strict or not."""
    publish_state(registry, nets, {"a": torch.ones(1)}, tmp_path)
    for strict in (True, False):
        with pytest.raises(ConstructionError, match="do not fit the model"):
            registry.load("net", model_cls=nets.Net, strict=strict)


def test_smaller_dtype_fits_a_larger_one(registry, nets, trained, tmp_path):
    """Float16 is float32 without loss, and the other way round it is not."""
    half = {name: value.half() if value.is_floating_point() else value for name, value in trained.state_dict().items()}
    half["last.weight"] = half["last.weight"].clone()
    publish_state(registry, nets, half, tmp_path)
    assert torch.equal(registry.load("net", model_cls=nets.Net).first.bias, half["first.bias"].float())

    registry.register("half", "1.0.0", nets.Half, path=save(trained, tmp_path / "f32.safetensors"))
    with pytest.raises(ConstructionError, match=r"torch\.float16 of the model cannot hold"):
        registry.load("half", model_cls=nets.Half)


def test_class_may_know_older_names(registry, nets, trained, tmp_path):
    """What it renames while it loads is no misfit."""
    state = {name.replace("first.", "begin."): value.clone() for name, value in trained.state_dict().items()}
    publish_state(registry, nets, state, tmp_path, nets.Renamed)

    assert_same(trained, registry.load("net", model_cls=nets.Renamed))


def test_model_without_memory_is_refused(registry, nets, trained, tmp_path):
    """Loading into it would change nothing, silently."""
    registry.register("net", "1.0.0", nets.Ghost, path=save(trained, tmp_path / "m.safetensors"))
    with pytest.raises(ConstructionError, match="constructed without memory for"):
        registry.load("net", model_cls=nets.Ghost)


def test_object_that_is_no_module(registry, nets, trained, tmp_path):
    """Gets the state as it is."""
    registry.register("net", "1.0.0", nets.Dict, path=save(trained, tmp_path / "m.safetensors"))

    assert "first.weight" in registry.load("net", model_cls=nets.Dict).state


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_what_is_no_safetensors_is_not_opened(registry, nets, weights, name):
    """A pickle could run code."""
    registry.register("net", "1.0.0", nets.Net, path=weights("pickled", name))
    with pytest.raises(ConstructionError, match="Only safetensors are, as nothing in them can run code"):
        registry.load("net", model_cls=nets.Net)


def test_device(registry, nets, trained, tmp_path):
    """Any that torch knows; others are refused."""
    registry.register("net", "1.0.0", nets.Net, path=save(trained, tmp_path / "m.safetensors"))
    assert "cpu" == registry.load("net", model_cls=nets.Net, device=torch.device("cpu")).first.weight.device.type
    with pytest.raises(ConstructionError, match="cannot be brought to device 'nowhere'"):
        registry.load("net", model_cls=nets.Net, device="nowhere")


def test_missing_library_is_told(registry, nets, trained, tmp_path, monkeypatch):
    """With what brings it."""
    registry.register("net", "1.0.0", nets.Net, path=save(trained, tmp_path / "m.safetensors"))
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ConstructionError, match=r"pip install 'mlc-registry\[torch\]'"):
        registry.load("net", model_cls=nets.Net)


def test_what_the_library_cannot_read_has_an_error_of_ours(registry, nets, trained, tmp_path, monkeypatch):
    """As for a dtype that it does not know."""
    registry.register("net", "1.0.0", nets.Net, {"width": 4}, path=save(trained, tmp_path / "m.safetensors"))

    def refuse(_):
        raise KeyError(4)

    monkeypatch.setattr("safetensors.torch.load_file", refuse)
    with pytest.raises(ConstructionError, match=r"m\.safetensors: KeyError: 4"):
        registry.load("net", model_cls=nets.Net)
