"""What is exported opens in what others read with, bit by bit, and nothing is written over."""

import errno
import json
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
library = pytest.importorskip("safetensors.torch")

from click.testing import CliRunner  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from mlc_core import (  # noqa: E402
    CheckpointManager,
    CheckpointNotFoundError,
    ConfigurationError,
    CorruptCheckpointError,
    EntryExistsError,
    StorageError,
    open_checkpoint,
)
from mlc_core.commands.exchange import commands  # noqa: E402
from mlc_core.interchange import export_pt, export_safetensors, import_file  # noqa: E402
from mlc_core.interchange.hub import parse_size  # noqa: E402
from mlc_core.state import frameworks  # noqa: E402

DTYPES = [getattr(torch, name) for name in frameworks.TORCH_DTYPES.values() if hasattr(torch, name)]


def bits(tensor):
    """Return the bytes of *tensor*."""
    return bytes(torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor).reshape(-1).view(torch.uint8).numpy())


def assert_same(one, other):
    """Fail unless two state_dicts have the same names, dtypes, shapes and bits."""
    assert set(one) == set(other)
    for name, value in one.items():
        assert (value.dtype, value.shape, bits(value)) == (other[name].dtype, other[name].shape, bits(other[name]))


def load_like_the_hub(directory):
    """Return the tensors of a directory as transformers collects them."""
    index = directory / "model.safetensors.index.json"
    if not index.exists():
        return library.load_file(directory / "model.safetensors")
    places = json.loads(index.read_text())["weight_map"]
    shards = {file: library.load_file(directory / file) for file in set(places.values())}
    assert sorted(places) == sorted(name for shard in shards.values() for name in shard)
    return {name: shards[file][name] for name, file in places.items()}


def saved(place, state, **items):
    """Return the checkpoint of *state*, opened."""
    return open_checkpoint(CheckpointManager(place, "m").save_checkpoint(state, items=items, epoch=1))


@st.composite
def states(draw):
    """Draw a state_dict of any dtypes and shapes, some of it tied."""
    state = {}
    for name in draw(st.lists(st.text("ab.ü", min_size=1, max_size=4), unique=True, min_size=1, max_size=6)):
        dtype, shape = draw(st.sampled_from(DTYPES)), tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
        raw = torch.zeros(torch.Size(shape).numel() * dtype.itemsize, dtype=torch.uint8)
        raw.random_(0, 2 if dtype is torch.bool else 256)
        state[name] = raw.view(dtype).reshape(shape)
    return state


@given(state=states(), size=st.none() | st.integers(1, 200))
@settings(max_examples=60)
def test_whatever_is_exported_the_library_reads(tmp_path_factory, state, size):
    """In one file, in a directory, in shards of any size; and we read it too."""
    place = tmp_path_factory.mktemp("export")
    reader = saved(place, state)
    (file,) = export_safetensors(reader, place / "one.safetensors")
    written = export_safetensors(reader, place / "hub", max_shard_size=size)

    assert_same(state, library.load_file(file))
    assert_same(state, load_like_the_hub(place / "hub"))
    assert_same(state, import_file(place / "hub").items["model"])
    assert {one.name for one in written} == {one.name for one in (place / "hub").iterdir()}
    for one in written[:-1] if size else []:
        tensors = library.load_file(one)
        assert 1 == len(tensors) or sum(value.nbytes for value in tensors.values()) <= size
    if len(written) > 1:
        index = json.loads((place / "hub" / "model.safetensors.index.json").read_text())
        assert sum(value.nbytes for value in state.values()) == index["metadata"]["total_size"]
        count = len(written) - 1
        names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
        assert [*names, "model.safetensors.index.json"] == [one.name for one in written]


class Tied(nn.Module):
    """One weight under two names."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(3, 3), nn.Linear(3, 3)
        self.decoder.weight = self.encoder.weight


def test_tied_parameters_are_written_once_and_said(tmp_path):
    """As `save_model` of the library says it, so that its `load_model` and our import tie them again."""
    model, other = Tied(), Tied()
    reader = saved(tmp_path, model)
    (file,) = export_safetensors(reader, tmp_path / "x.safetensors")
    library.save_model(model, tmp_path / "theirs.safetensors")
    with library.safe_open(file, "pt") as ours, library.safe_open(tmp_path / "theirs.safetensors", "pt") as theirs:
        assert {"format": "pt", "decoder.weight": "encoder.weight"} == ours.metadata()
        kept = {"encoder.weight", "decoder.weight"} & {*theirs.keys()}
        assert 1 == len(kept)
        assert (theirs.metadata().keys() - {"format"}) == {"encoder.weight", "decoder.weight"} - kept
    missing, unexpected = library.load_model(other, file)

    assert (set(), []) == (set(missing), unexpected)
    assert_same(model.state_dict(), other.state_dict())
    assert_same(model.state_dict(), import_file(file).items["model"])
    export_safetensors(reader, tmp_path / "hub", max_shard_size=1)
    assert_same(model.state_dict(), import_file(tmp_path / "hub").items["model"])


def test_library_of_the_hub_reads_shards(tmp_path):
    """Into a model, strictly."""
    hub = pytest.importorskip("huggingface_hub")
    model, other = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9)), nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    written = export_safetensors(saved(tmp_path, model), tmp_path / "hub", max_shard_size="330")

    assert 4 <= len(written), "three shards and an index at least"
    hub.load_torch_model(other, tmp_path / "hub", strict=True, safe=True)
    assert_same(model.state_dict(), other.state_dict())


def test_any_item_that_is_tensors_by_name(tmp_path):
    """The average too; what is not is refused with the way out."""
    model = nn.Linear(2, 2)
    reader = saved(tmp_path, model, ema=model, notes={"a": 1}, more={"a": {"b": torch.ones(1)}}, none={})
    (file,) = export_safetensors(reader, tmp_path / "x.safetensors", item="ema")

    assert_same(model.state_dict(), library.load_file(file))
    for item, what in (("notes", "'a' in it is no tensor"), ("more", "'a' in it"), ("none", "it is not")):
        with pytest.raises(ConfigurationError, match=rf"^{item} of .* must be tensors by name, and {what}.*export_pt"):
            export_safetensors(reader, tmp_path / "y.safetensors", item=item)
    with pytest.raises(CheckpointNotFoundError, match="holds no swa; it holds model, ema"):
        export_safetensors(reader, tmp_path / "y.safetensors", item="swa")
    assert not (tmp_path / "y.safetensors").exists()


@pytest.mark.parametrize("write", [export_safetensors, export_pt])
def test_nothing_is_written_over(tmp_path, write):
    """Unless it is asked for; a link that leads nowhere is something too."""
    reader, target = saved(tmp_path, nn.Linear(2, 2)), tmp_path / "x.safetensors"
    target.write_text("mine")
    with pytest.raises(EntryExistsError, match=r"x\.safetensors is there already, .*overwrite=True"):
        write(reader, target)
    assert "mine" == target.read_text()
    write(reader, target, overwrite=True)
    assert "mine" != target.read_bytes()[:4].decode("latin-1")
    target.unlink()
    target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(EntryExistsError):
        write(reader, target)
    assert {"m", "x.safetensors"} == {one.name for one in tmp_path.iterdir()}


def test_nothing_is_written_over_in_a_directory(tmp_path):
    """Of an export before this one; other files do not matter, and an old shard never stays beside a new index."""
    reader, hub = saved(tmp_path, nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))), tmp_path / "hub"
    hub.mkdir()
    (hub / "config.json").write_text("{}")
    state = reader.load()["model"]
    for size in (100, 700, None, 300):
        if size != 100:
            with pytest.raises(EntryExistsError):
                export_safetensors(reader, hub, max_shard_size=size)
        written = export_safetensors(reader, hub, max_shard_size=size, overwrite=size != 100)
        assert {"config.json", *(one.name for one in written)} == {one.name for one in hub.iterdir()}
        assert_same(state, load_like_the_hub(hub))


def test_file_without_links_is_published_all_the_same(tmp_path, monkeypatch):
    """Where a file system has no hard links, and not over what is there."""

    def refuse(*_):
        raise OSError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "link", refuse)
    reader = saved(tmp_path, nn.Linear(2, 2))
    export_safetensors(reader, tmp_path / "x.safetensors")

    assert_same(reader.load()["model"], library.load_file(tmp_path / "x.safetensors"))
    with pytest.raises(EntryExistsError):
        export_safetensors(reader, tmp_path / "x.safetensors")


@pytest.mark.parametrize("call", ["fsync", "link"])
@pytest.mark.parametrize("write", [export_safetensors, export_pt])
def test_failing_disk_leaves_nothing(tmp_path, monkeypatch, write, call):
    """Neither half a file nor a hidden one."""
    reader = saved(tmp_path, nn.Linear(2, 2))

    def fail(*_):
        raise OSError(errno.EIO, "the disk is failing")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError, match="the disk is failing"):
        write(reader, tmp_path / "x.pt" if write is export_pt else tmp_path / "x.safetensors")
    assert {"m"} == {one.name for one in tmp_path.iterdir()}


def test_corrupt_checkpoint_is_not_exported(tmp_path):
    """It is verified before anything is written."""
    reader = saved(tmp_path, nn.Linear(300, 300))
    file = reader.location / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    for write in (export_safetensors, export_pt):
        with pytest.raises(CorruptCheckpointError, match=r"model\.safetensors was changed"):
            write(reader, tmp_path / "x.safetensors")
    assert {"m"} == {one.name for one in tmp_path.iterdir()}


def test_export_needs_neither_torch_nor_numpy(tmp_path):
    """A machine that serves files has none."""
    reader = saved(tmp_path, nn.Linear(2, 2))
    code = (
        "import sys\nfrom mlc_core import open_checkpoint\nfrom mlc_core.interchange import export_safetensors\n"
        "export_safetensors(open_checkpoint(sys.argv[1]), sys.argv[2], max_shard_size=10)\n"
        "print({'torch', 'numpy', 'safetensors'} & set(sys.modules))"
    )
    arguments = [sys.executable, "-c", code, reader.location, tmp_path / "hub"]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)

    assert "set()" == done.stdout.strip()
    assert_same(reader.load()["model"], load_like_the_hub(tmp_path / "hub"))


def test_file_of_torch(tmp_path):
    """One item as it is, or all of them with epoch and metrics, which our import takes back."""
    model = nn.Linear(2, 2)
    manager = CheckpointManager(tmp_path, "m")
    path = manager.save_checkpoint(model, torch.optim.Adam(model.parameters()), epoch=3, metrics={"loss": 0.5})
    reader = open_checkpoint(path)
    found = torch.load(export_pt(reader, tmp_path / "model.pt"), weights_only=True)
    export_pt(reader, tmp_path / "all.pt", item=None)
    foreign = import_file(tmp_path / "all.pt")

    assert_same(model.state_dict(), found)
    assert_same(model.state_dict(), foreign.items["model"])
    assert (3, {"loss": 0.5}, {"model", "optimizer"}) == (foreign.epoch, foreign.metrics, set(foreign.items) - {"rest"})


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5 * 10**9), ("512MiB", 2**29), ("1.5 kB", 1500), (700, 700), ("700", 700), ("2TB", 2 * 10**12)],
)
def test_sizes_are_read_as_the_hub_writes_them(text, size):
    """Powers of ten, and of two where it says so."""
    assert size == parse_size(text)


@pytest.mark.parametrize("text", ["", "GB", "-1", 0, "5 apples", "1e9", "0.1"])
def test_what_is_no_size_is_refused(tmp_path, text):
    """Before anything is read."""
    with pytest.raises(ConfigurationError, match="is no size of a file; write it as '5GB'"):
        export_safetensors(saved(tmp_path, nn.Linear(1, 1)), tmp_path / "hub", max_shard_size=text)


def test_command_exports_by_the_name_of_the_target(tmp_path):
    """A file, a directory, a file of torch; for people and for programs."""
    (command, _) = commands
    reader = saved(tmp_path, nn.Linear(30, 30))
    state = reader.load()["model"]

    def run(*arguments):
        return CliRunner().invoke(command, [str(reader.location), *map(str, arguments)], catch_exceptions=False).output

    assert f"wrote  {tmp_path / 'x.safetensors'}  " in run(tmp_path / "x.safetensors")
    assert_same(state, library.load_file(tmp_path / "x.safetensors"))
    told = json.loads(run(tmp_path / "hub", "--max-shard-size", "1kB", "--json"))
    assert (3, "model") == (len(told["files"]), told["item"])
    assert_same(state, load_like_the_hub(tmp_path / "hub"))
    run(tmp_path / "x.pt")
    assert_same(state, torch.load(tmp_path / "x.pt", weights_only=True))
    for target in ("y.pt", "y.safetensors"):
        with pytest.raises(ConfigurationError, match="is one file"):
            run(tmp_path / target, "--max-shard-size", "1kB")
    with pytest.raises(EntryExistsError):
        run(tmp_path / "x.pt")
    run(tmp_path / "x.pt", "--overwrite")
