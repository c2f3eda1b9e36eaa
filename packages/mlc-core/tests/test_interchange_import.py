"""Other people's files become checkpoints: nothing in them is run, nothing of them is dropped without a word."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict

import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn, optim  # noqa: E402

from mlc_core import (  # noqa: E402
    CheckpointManager,
    CheckpointNotFoundError,
    ConfigurationError,
    CorruptCheckpointError,
    MismatchError,
    StateError,
    open_checkpoint,
)
from mlc_core.commands.exchange import commands  # noqa: E402
from mlc_core.interchange import import_checkpoint, import_file, import_pt  # noqa: E402

ZIPPED = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def trained():
    """Return a model and an optimizer that has made a step."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def save(content, path, *, zipped=True):
    """Write *content* as torch does, or did."""
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


# ---------------------------------------------------------------------- layouts

LAYOUTS = {
    "a bare state_dict": lambda model, optimizer: model,
    "the tutorial": lambda model, optimizer: {
        "epoch": 3,
        "model_state_dict": model,
        "optimizer_state_dict": optimizer,
        "loss": torch.tensor(0.25),
    },
    "imagenet": lambda model, optimizer: {
        "epoch": 3,
        "arch": "resnet18",
        "state_dict": model,
        "best_acc1": torch.tensor(61.5),
        "optimizer": optimizer,
        "scheduler": {"last_epoch": 3},
    },
    "timm": lambda model, optimizer: {
        "epoch": 3,
        "arch": "vit",
        "state_dict": model,
        "optimizer": optimizer,
        "version": 2,
        "state_dict_ema": model,
        "metric": 71.25,
        "amp_scaler": {"scale": 4.0},
    },
    "detection": lambda model, optimizer: {
        "model": model,
        "optimizer": optimizer,
        "lr_scheduler": {"last_epoch": 3},
        "epoch": 3,
        "args": {"lr": 0.1},
    },
}
RECOGNISED = {
    "a bare state_dict": (None, {}, {"model"}, set()),
    "the tutorial": (3, {"loss": 0.25}, {"model", "optimizer"}, set()),
    "imagenet": (3, {"best_acc1": 61.5}, {"model", "optimizer", "scheduler"}, {"arch"}),
    "timm": (3, {"metric": 71.25}, {"model", "optimizer", "ema", "scaler"}, {"arch", "version"}),
    "detection": (3, {}, {"model", "optimizer", "scheduler"}, {"args"}),
}


@ZIPPED
@pytest.mark.parametrize("layout", LAYOUTS)
def test_common_layout_is_recognised(tmp_path, layout, zipped):
    """What it is, what became of each part, and a model and an optimizer that take it bit by bit."""
    model, optimizer = trained()
    path = save(LAYOUTS[layout](model.state_dict(), optimizer.state_dict()), tmp_path / "theirs.pth", zipped=zipped)
    manager = CheckpointManager(tmp_path / "ours", "m")
    place, foreign = import_checkpoint(path, manager)
    epoch, metrics, items, rest = RECOGNISED[layout]
    (saved,) = manager.list_checkpoints()

    assert (epoch, metrics, ("imported from theirs.pth",)) == (saved.epoch, dict(saved.metrics), saved.reasons)
    assert items | ({"rest"} if rest else set()) == set(saved.items) == set(foreign.items)
    assert rest == set(open_checkpoint(place).load().get("rest", {}))
    assert {} == foreign.left_out
    other, resumed = trained()
    manager.load_checkpoint("latest", other, resumed if "optimizer" in items else None)
    for one, two in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    if "optimizer" in items:
        moments = [
            (a["exp_avg"], b["exp_avg"]) for a, b in zip(optimizer.state.values(), resumed.state.values(), strict=True)
        ]
        assert all(torch.equal(*pair) for pair in moments)


PARTS = st.dictionaries(
    st.sampled_from(
        ["epoch", "step", "loss", "val_acc", "metrics", "args", "net", "optim", "notes", "scheduler", "ema"]
    ),
    st.none()
    | st.integers(-1, 5)
    | st.floats()
    | st.sampled_from(["text", [1, 2], {}, {"a": 1}, {"a": 0.5}, {"a": "b"}, {"loss": 0.5}])
    | st.just(torch.ones(2))
    | st.just(torch.ones(2, dtype=torch.complex128)),
)


@given(parts=PARTS, model=st.sampled_from(["model", "state_dict", "weights"]))
@settings(max_examples=60)
def test_every_part_is_accounted_for(tmp_path_factory, parts, model):
    """It is an item, a fact, in the rest as it was, or left out by name."""
    place = tmp_path_factory.mktemp("parts")
    state = nn.Linear(1, 1).state_dict()
    _, foreign = import_checkpoint(save({model: state, **parts}, place / "x.pt"), CheckpointManager(place, "m"))

    assert {model, *parts} == {*foreign.found, *foreign.left_out}
    for name, what in foreign.found.items():
        if what == "rest":
            value = foreign.items["rest"][name]
            assert value is parts[name] or str(value) == str(parts[name])
        elif what == "metrics":
            numbers = parts[name] if isinstance(parts[name], dict) else {name: parts[name]}
            assert all(foreign.metrics[key] == value or value != value for key, value in numbers.items())
        elif what in {"epoch", "step"}:
            assert getattr(foreign, what) == parts[name]
        else:
            assert what in foreign.items
    for name, why in foreign.left_out.items():
        assert f"rest.{name}" in why


LIGHTNING = """
import sys, torch, lightning
from torch import nn
class Net(lightning.LightningModule):
    def __init__(self, width=3):
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(width, 1)
    def training_step(self, batch):
        return self.layer(batch[0]).square().mean()
    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 3)), batch_size=2)
net = Net()
trainer = lightning.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                            accelerator="cpu", default_root_dir=sys.argv[1])
trainer.fit(net)
trainer.save_checkpoint(sys.argv[1] + "/theirs.ckpt")
torch.save({**net.state_dict()}, sys.argv[1] + "/plain.pt")
"""


@pytest.mark.slow
def test_real_checkpoint_of_lightning_is_recognised(tmp_path):
    """Written by Lightning itself in a process of its own; the rest of it is kept."""
    pytest.importorskip("lightning")
    subprocess.run([sys.executable, "-W", "ignore", "-c", LIGHTNING, tmp_path], check=True, capture_output=True)
    manager = CheckpointManager(tmp_path, "m")
    _, foreign = import_checkpoint(tmp_path / "theirs.ckpt", manager)
    plain = torch.load(tmp_path / "plain.pt", weights_only=True)
    found = manager.load_checkpoint().state

    assert "a Lightning checkpoint" == foreign.layout
    assert {"model", "optimizer", "scheduler", "rest"} == set(foreign.items)
    assert ({}, 2, 4) == (foreign.left_out, foreign.epoch, foreign.step)
    assert {"width": 3} == found["rest"]["hyper_parameters"]
    assert all(torch.equal(value, found["model"][name]) for name, value in plain.items())
    assert {"exp_avg", "exp_avg_sq", "step"} == set(found["optimizer"]["state"][0])


def test_several_optimizers_of_lightning_are_several_items(tmp_path):
    """As a GAN has them."""
    model, optimizer = trained()
    content = {
        "pytorch-lightning_version": "2.0.0",
        "state_dict": model.state_dict(),
        "epoch": 1,
        "global_step": 9,
        "optimizer_states": [optimizer.state_dict(), optimizer.state_dict()],
        "lr_schedulers": [],
    }
    foreign = import_pt(save(content, tmp_path / "gan.ckpt"))

    assert {"model", "optimizer", "optimizer_1", "rest"} == set(foreign.items)
    assert (1, 9, {"lr_schedulers": "it is empty"}) == (foreign.epoch, foreign.step, foreign.left_out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list, and not a model's parameters by name"),
        (
            {"a": 1, "b": {"c": torch.ones(1)}},
            r"holds a, b, and nothing among it that is known as a model's parameters",
        ),
        ({}, "holds nothing, and nothing among it"),
        (torch.ones(2), "holds a Tensor"),
    ],
)
def test_file_without_a_model_is_refused(tmp_path, content, message):
    """With what it holds, so that one can take it out by hand."""
    with pytest.raises(MismatchError, match=rf"^x\.pt {message}"):
        import_pt(save(content, tmp_path / "x.pt"))


def test_state_of_an_optimizer_alone(tmp_path):
    """As some programs have it in a file of its own."""
    foreign = import_pt(save(trained()[1].state_dict(), tmp_path / "optimizer.pt"))

    assert ("an optimizer's state", {"optimizer"}) == (foreign.layout, set(foreign.items))


# ---------------------------------------------------------------------- hostile and broken


class Hostile:
    """Something that would create a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Custom:
    """A harmless class of somebody's own."""


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle 2", "pickle 4"])
def test_code_is_never_run(tmp_path, form):
    """Wherever in the file it hides; where it can be told, what it asks for is."""
    content = {"model": nn.Linear(1, 1).state_dict(), "args": Hostile(tmp_path / "owned")}
    if form.startswith("pickle"):
        (tmp_path / "x.pt").write_bytes(pickle.dumps(content, protocol=int(form[-1])))
    else:
        save(content, tmp_path / "x.pt", zipped=form == "zip")
    manager = CheckpointManager(tmp_path / "ours", "m")
    with pytest.raises((StateError, CorruptCheckpointError)) as caught:
        import_checkpoint(tmp_path / "x.pt", manager)

    assert not (tmp_path / "owned").exists()
    assert () == manager.list_checkpoints()
    if not form.startswith("pickle"):
        assert f"asks for {os.system.__module__}.system to be run or built" in str(caught.value)


@ZIPPED
@pytest.mark.parametrize(
    ("make", "asked"),
    [
        (Custom, r"\S*Custom"),
        (lambda: eval, "eval"),
        (lambda: nn.Linear(1, 1), r"torch\.nn\.modules\.linear\.Linear"),
        (lambda: __import__("pathlib").Path("a"), r"pathlib\S*Path"),
        (lambda: __import__("numpy").float64(1), r"numpy\S*\.scalar"),
    ],
)
def test_what_a_file_asks_for_is_named(tmp_path, make, asked, zipped):
    """So that its owner knows what to leave out."""
    pytest.importorskip("numpy")
    path = save({"x": make()}, tmp_path / "x.pt", zipped=zipped)
    with pytest.raises(
        StateError, match=rf"x\.pt asks for {asked} to be run or built while it is read.* nothing was run"
    ):
        import_pt(path)


@ZIPPED
@given(data=st.data())
@settings(max_examples=60)
def test_torn_or_changed_file_is_corrupt(tmp_path_factory, zipped, data):
    """Cut anywhere, or a bit of it changed: refused, or the very tensors that were saved; never others."""
    place = tmp_path_factory.mktemp("torn")
    state = {"w": torch.arange(50.0), "b": torch.ones(3)}
    content = bytearray(save(state, place / "x.pt", zipped=zipped).read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    cut = data.draw(st.booleans())
    if cut:
        del content[position:]
    elif zipped:
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    (place / "x.pt").write_bytes(content)
    try:
        found = import_pt(place / "x.pt").items["model"]
    except (CorruptCheckpointError, StateError, MismatchError):
        return
    assert not cut
    assert set(found) == set(state)
    assert all(torch.equal(value, found[name]) for name, value in state.items())


def test_changed_tensor_is_found_by_its_check_sum(tmp_path):
    """Torch writes the sums, and does not read them."""
    path = save({"w": torch.arange(500.0)}, tmp_path / "x.pt")
    with zipfile.ZipFile(path) as archive:
        place = next(one for one in archive.infolist() if one.filename.endswith("data/0")).header_offset
    content = bytearray(path.read_bytes())
    content[place + 900] ^= 1
    path.write_bytes(content)

    with pytest.raises(CorruptCheckpointError, match=r"check sum of x/data/0 does not match; .* verify=False"):
        import_pt(path)
    assert not torch.equal(torch.arange(500.0), import_pt(path, verify=False).items["model"]["w"])


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"hello", b"PK\x03\x04" + bytes(99), bytes(5000), b"\x80\x02}q\x00."]
)
def test_any_other_file_is_corrupt(tmp_path, content):
    """Not an OSError 22 without a word."""
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match=r"x\.pt is (no file of torch.save|torn)"):
        import_pt(tmp_path / "x.pt")


def test_what_is_not_there_is_said(tmp_path):
    """And what is not known by its name."""
    (tmp_path / "notes.txt").write_text("hello")
    for path, message in (
        (tmp_path / "x.pt", "is not a file"),
        (tmp_path / "x.safetensors", "is not there"),
        (tmp_path / "notes.txt", r"not known by its name; a file ends in one of \.pt, \.pth"),
        (tmp_path, r"holds none of model\.safetensors, pytorch_model\.bin"),
    ):
        with pytest.raises(CheckpointNotFoundError, match=message):
            import_file(path)


# ---------------------------------------------------------------------- safetensors and the hub


def test_safetensors_file(tmp_path):
    """What it says of itself is kept, and what is tied by its metadata is tied again."""
    library = pytest.importorskip("safetensors.torch")
    state = {"a": torch.randn(200, 200), "b": torch.ones(3, dtype=torch.bfloat16)}
    library.save_file(state, tmp_path / "x.safetensors", metadata={"format": "pt", "author": "me", "c": "a"})
    foreign = import_file(tmp_path / "x.safetensors")
    place, _ = import_checkpoint(tmp_path / "x.safetensors", CheckpointManager(tmp_path, "m"), epoch=4)
    found = open_checkpoint(place).load()

    assert "a safetensors file" == foreign.layout
    assert {"metadata": {"author": "me"}} == found["rest"]
    assert ["a", "b", "c"] == sorted(found["model"])
    assert all(torch.equal(state[kept], found["model"][name]) for name, kept in (("a", "a"), ("b", "b"), ("c", "a")))
    assert ["a", "b"] == sorted(open_checkpoint(place).tensors())


@pytest.mark.parametrize("content", [b"", b"12345678", b"\x00" * 100, (99).to_bytes(8, "little") + b"{}"])
def test_torn_safetensors_file_is_corrupt(tmp_path, content):
    """With the name of the file."""
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match=r"x\.safetensors is no safetensors file"):
        import_file(tmp_path / "x.safetensors")


def test_safetensors_file_that_says_no_text_of_itself_is_corrupt(tmp_path):
    """The format allows text only."""
    header = b'{"__metadata__": {"a": 1}}'
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CorruptCheckpointError, match="has metadata that is not text by name"):
        import_file(tmp_path / "x.safetensors")


@pytest.fixture(params=["safetensors", "bin"])
def hub(request, tmp_path):
    """A directory as the hub has them, in two shards, with other files beside them."""
    library = pytest.importorskip("safetensors.torch")
    shards = [{"a": torch.randn(3, 3)}, {"b": torch.randn(2), "c": torch.ones(1)}]
    stem = "model" if request.param == "safetensors" else "pytorch_model"
    names = [f"{stem}-0000{number}-of-00002.{request.param}" for number in (1, 2)]
    directory = tmp_path / "brain"
    directory.mkdir()
    for name, shard in zip(names, shards, strict=True):
        library.save_file(shard, directory / name) if stem == "model" else torch.save(shard, directory / name)
    index = {
        "metadata": {"total_size": 48},
        "weight_map": {key: name for name, shard in zip(names, shards, strict=True) for key in shard},
    }
    (directory / f"{stem}.{request.param}.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text("{}")
    return directory, shards[0] | shards[1], index


def test_directory_of_the_hub(hub, tmp_path):
    """All shards, and the names of what is not taken."""
    directory, state, _ = hub
    manager = CheckpointManager(tmp_path, "m")
    _, foreign = import_checkpoint(directory, manager)
    found = manager.load_checkpoint().state["model"]

    assert set(state) == set(found)
    assert all(torch.equal(value, found[name]) for name, value in state.items())
    assert ("brain", "2 shards of the hub") == (foreign.source, foreign.layout)
    assert {"config.json": "it is another file in the directory"} == foreign.left_out
    assert ("imported from brain",) == manager.list_checkpoints()[0].reasons


def test_index_that_does_not_fit_its_shards_is_corrupt(hub):
    """A tensor too many, one too few, a shard that is missing, and a path that leads out of the directory."""
    directory, _, index = hub
    (file,) = directory.glob("*.index.json")
    shard = index["weight_map"]["b"]

    def refused(error, message, **changes):
        file.write_text(json.dumps({"weight_map": {**index["weight_map"], **changes}}))
        with pytest.raises(error, match=message):
            import_file(directory)

    refused(CorruptCheckpointError, "lacks 'd', and the index says otherwise", d=shard)
    refused(CorruptCheckpointError, "lacks 'b', and the index says otherwise", b=index["weight_map"]["a"])
    del index["weight_map"]["c"]
    refused(CorruptCheckpointError, "holds 'c', and the index says otherwise")
    index["weight_map"]["c"] = shard
    refused(CheckpointNotFoundError, "is not (there|a file)", d=shard.replace("2-of", "3-of"))
    refused(CorruptCheckpointError, "is not the name of a file beside it", a=f"../{shard}")
    refused(CorruptCheckpointError, "its weight_map is not file names", a=3)
    for content in ("[]", "{", "{}", '{"weight_map": [1]}', '{"weight_map": {}, "metadata": 3}'):
        file.write_text(content)
        with pytest.raises(CorruptCheckpointError, match="is no index of shards"):
            import_file(directory)


# ---------------------------------------------------------------------- into a checkpoint


def test_facts_can_be_given(tmp_path):
    """They win over those in the file; a wrong one is refused before the file is read."""
    path = save({"model": nn.Linear(1, 1).state_dict(), "epoch": 3, "loss": 0.5}, tmp_path / "x.pt")
    manager = CheckpointManager(tmp_path, "m")
    import_checkpoint(path, manager, epoch=7, step=70, metrics={"loss": 0.25, "dice": 0.5})
    (saved,) = manager.list_checkpoints()

    assert (7, 70, {"loss": 0.25, "dice": 0.5}) == (saved.epoch, saved.step, dict(saved.metrics))
    with pytest.raises(ConfigurationError, match="epoch=-1 must count from 0"):
        import_checkpoint(tmp_path / "none.pt", manager, epoch=-1)


@given(value=st.integers() | st.floats() | st.text(max_size=3) | st.none() | st.booleans())
def test_epoch_that_is_none_is_kept_as_what_it_is(tmp_path_factory, value):
    """In the rest, under its name; whatever it is, the model is imported."""
    place = tmp_path_factory.mktemp("epoch")
    path = save(OrderedDict(model=nn.Linear(1, 1).state_dict(), epoch=value), place / "x.pt")
    _, foreign = import_checkpoint(path, CheckpointManager(place, "m"))

    assert (foreign.epoch is None) == ("epoch" in foreign.items.get("rest", {}))


def test_command_imports_and_tells(tmp_path):
    """For people and for programs; what was there before stays."""
    (_, command) = commands
    place = tmp_path / "checkpoints"
    for number in range(7):
        content = {"net": nn.Linear(1, 1).state_dict(), "epoch": number, "odd": torch.ones(1, dtype=torch.complex128)}
        path = save(content, tmp_path / "x.pt")
        done = CliRunner().invoke(command, [str(path), str(place), "m", "--metric", "dice=0.5"], catch_exceptions=False)
        assert f"x.pt is a training checkpoint; it is now {place / 'm' / f'epoch_{number}'}" in done.output
        assert "left out: rest.odd has dtype torch.complex128" in done.output
    done = CliRunner().invoke(command, [str(path), str(place), "m", "--epoch", "9", "--json"], catch_exceptions=False)
    told = json.loads(done.output)

    assert ([*range(7), 9], 9) == (
        [one.epoch for one in CheckpointManager(place, "m").list_checkpoints()],
        told["epoch"],
    )
    assert {"net": "model", "epoch": "epoch"} == told["found"]
    with pytest.raises(ConfigurationError, match="--metric dice is not a name and a number"):
        CliRunner().invoke(command, [str(path), str(place), "m", "--metric", "dice"], catch_exceptions=False)
