"""`pin`, `unpin`, `prune`, `why`, `diff` and `du`: what stays and why, what differs, what it costs."""

import json
import math
import os
import sys

import pytest
from click.testing import CliRunner

from mlc_core import CheckpointManager, CheckpointNotFoundError, ConfigurationError, CorruptCheckpointError
from mlc_core.commands import checkpoints
from mlc_core.retention import KeepAll
from mlc_hooks import OptionsError, UnknownNameError


@pytest.fixture
def unet(tmp_path):
    """Four epochs of one model, the second the best; the history does not know by which metric."""
    base = tmp_path / "run" / "checkpoints"
    manager = CheckpointManager(base, "unet", "epoch", None, "score", "max", retention=KeepAll())
    for epoch, score in ((1, 0.5), (2, 0.9), (3, 0.7), (4, 0.8)):
        manager.save_checkpoint(items={"data": f"epoch {epoch}"}, epoch=epoch, metrics={"score": score})
    history = base / "unet" / ".mlc" / "history.jsonl"
    lines = [line for line in history.read_text().splitlines() if "monitored" not in line]
    history.write_text("".join(f"{line}\n" for line in lines))
    return base / "unet"


def call(*arguments, answer=None):
    """Run the command and return its exit status and what it printed."""
    result = CliRunner().invoke(checkpoints, [str(one) for one in arguments], input=answer, catch_exceptions=False)
    return result.exit_code, result.output


def read(*arguments):
    """Run the command with --json."""
    status, output = call(*arguments, "--json")
    return status, json.loads(output)


def names(unet):
    """Those that are there, in order of commit."""
    return [one["name"] for one in read("ls", unet)[1][0]["checkpoints"]]


def latest(unet):
    """What `latest` loads."""
    return CheckpointManager(unet.parent, "unet").load_checkpoint("latest").state["data"]


BY_SCORE = ("--metric", "score", "--mode", "max")

# ---------------------------------------------------------------------- pins


def test_pins_are_shown_and_respected(unet):
    """By `ls`, by `prune`, and by a training, until they are taken away; unpinning twice is once."""
    assert "pinned" in call("pin", unet / "epoch_1", "--reason", "in the paper")[1]
    assert 1 == call("ls", unet)[1].count(" pinned ")
    assert {"done": "pinned", "location": str(unet / "best")} != read("pin", unet / "best")[1]
    call("unpin", unet / "epoch_2")
    call("prune", unet, "--policy", "latest", "--yes")
    CheckpointManager(unet.parent, "unet", max_checkpoints=1).prune()

    assert ["epoch_1", "epoch_4"] == names(unet)
    assert "in the paper" in call("why", unet / "epoch_1")[1]
    assert [True, False] == ["was not" in call("unpin", unet / name)[1] for name in ("epoch_4", "epoch_1")]
    call("prune", unet, "--policy", "latest", "--yes")
    assert ["epoch_4"] == names(unet)
    assert "epoch 4" == latest(unet)


def test_only_a_checkpoint_can_be_pinned(unet):
    """A directory of them is none."""
    for command in ("pin", "unpin"):
        with pytest.raises(CheckpointNotFoundError, match="is not a checkpoint"):
            call(command, unet)


# ---------------------------------------------------------------------- prune


def test_prune_shows_asks_and_removes(unet):
    """Every decision with its reason; no is no."""
    status, output = call("prune", unet.parent, "--keep", 2, *BY_SCORE, answer="n\n")

    assert (0, 2, 2) == (status, output.count("keep "), output.count("REMOVE"))
    for part in ("the best score (0.9)", "the latest", "not kept by", "Remove 2 checkpoints?", "nothing was removed"):
        assert part in output
    assert 4 == len(names(unet))
    assert "removed 2 checkpoints" in call("prune", unet.parent, "--keep", 2, *BY_SCORE, answer="y\n")[1]
    assert ["epoch_2", "epoch_4"] == names(unet)
    assert "nothing is to be removed" in call("prune", unet.parent, "--keep", 2, *BY_SCORE)[1]
    assert "epoch 4" == latest(unet)


def test_prune_dry_run(unet):
    """Nothing is asked, and nothing removed."""
    status, (found,) = read("prune", unet, "--keep", 1, *BY_SCORE, "--dry-run")

    assert (0, False) == (status, found["removed"])
    assert [False, True, False, True] == [one["keep"] for one in found["decisions"]]
    assert 4 == len(names(unet))
    status, (found,) = read("prune", unet, "--keep", 1, *BY_SCORE, "--yes")
    assert (0, True) == (status, found["removed"])
    assert ["epoch_2", "epoch_4"] == names(unet)


def test_prune_will_not_lose_the_best_unknowingly(unet):
    """Where nothing says by which metric it is; the history of a training does."""
    with pytest.raises(ConfigurationError, match="nothing says by which metric"):
        call("prune", unet, "--keep", 1, "--yes")
    note = {"event": "monitored", "at": "now", "metric": "score", "mode": "max"}
    with (unet / ".mlc" / "history.jsonl").open("a") as opened:
        opened.write(json.dumps(note) + "\n")
    call("prune", unet, "--keep", 1, "--yes")

    assert ["epoch_2", "epoch_4"] == names(unet)
    (unet / "best").unlink()
    (unet / ".mlc" / "history.jsonl").unlink()
    call("prune", unet, "--keep", 1, "--yes")
    assert ["epoch_4"] == names(unet)


def test_prune_by_policies_from_the_catalog(unet):
    """With options; several keep what any of them keeps."""
    policies = ("--policy", "latest,count=1", "--policy", "best, metric=score, mode=min")
    call("prune", unet, *policies, "--yes")

    assert ["epoch_1", "epoch_4"] == names(unet)


@pytest.mark.parametrize(
    ("policy", "error", "message"),
    [
        ("latets", UnknownNameError, "latest"),
        ("latest,amount=3", OptionsError, "it takes: count"),
        ("latest,count", ConfigurationError, "'count' is not OPTION=VALUE"),
        ("latest,count=0", ConfigurationError, "must be 1 or more"),
    ],
)
def test_wrong_policy_is_explained(unet, policy, error, message):
    """Before anything is removed."""
    with pytest.raises(error, match=message):
        call("prune", unet, "--policy", policy, "--yes")


def test_prune_needs_to_know_what_to_keep(unet):
    """One of the two ways to say it."""
    for arguments in ([], ["--keep", 2, "--policy", "latest"]):
        status, output = call("prune", unet, *arguments)
        assert (2, True) == (status, "either --keep N or --policy" in output)


def test_prune_never_leaves_corrupt_ones_only(unet):
    """The newest may be the one that cannot be loaded."""
    (unet / "epoch_4" / "state.json").write_text("torn")
    with pytest.raises(CorruptCheckpointError, match=r"all that would stay in .* is corrupt, so nothing is removed"):
        call("prune", unet, "--policy", "latest", "--yes")

    assert 4 == len(names(unet))


# ---------------------------------------------------------------------- why


def test_why_of_the_living_and_the_gone(unet, monkeypatch):
    """By path, by name within a place, by link, by id, and from inside the directory."""
    call("prune", unet, "--keep", 2, *BY_SCORE, "--yes")
    identity = read("why", unet / "best")[1][0]["id"]

    for words in (("best", unet), (identity[:8], unet.parent), (unet / "epoch_2",)):
        status, output = call("why", *words)
        assert (0, True, True) == (status, "there (best)" in output, "the best score (0.9)" in output)
    for words in ((unet / "epoch_1",), ("epoch_1", unet)):
        status, output = call("why", *words)
        assert (0, True, True) == (status, ": removed" in output, "not kept by" in output)
    monkeypatch.chdir(unet)
    assert "there (latest)" in call("why", "latest")[1]
    assert "removed" in call("why", "epoch_1")[1]


def test_why_of_the_quarantined(unet):
    """With the reason, and where it lies."""
    call("quarantine", unet / "epoch_3", "--reason", "trained on the wrong data")
    output = call("why", "epoch_3", unet)[1]

    for part in ("in quarantine", "trained on the wrong data", ".mlc/quarantine/epoch_3-"):
        assert part in output


def test_why_of_the_unknown_says_where_it_looked(unet):
    """And how to find out what there is."""
    with pytest.raises(CheckpointNotFoundError, match=r"nothing is known of 'epoch_9' in .*unet; `mlc checkpoints ls`"):
        call("why", "epoch_9", unet)


# ---------------------------------------------------------------------- diff


@pytest.fixture
def pair(tmp_path):
    """Two checkpoints with tensors of all verdicts."""
    np = pytest.importorskip("numpy")
    manager = CheckpointManager(tmp_path, "unet", retention=KeepAll())
    same = np.arange(6, dtype="f4")
    moved = np.array([1.0, np.nan, np.inf, 3.0])
    one = {"same": same, "moved": moved, "shape": np.zeros(3), "dtype": np.zeros(3, "f4"), "old": np.zeros(1, "i8")}
    after = np.array([1.0, np.nan, np.inf, 3.5])
    other = {"same": same, "moved": after, "shape": np.zeros((3, 1)), "dtype": np.zeros(3, "f8")}
    extra = {"new": np.ones((), "?"), "count": np.arange(3)}
    frozen = {"w": np.ones(4)}
    a = manager.save_checkpoint(
        items={"model": {**one, "count": np.arange(3) + 1}, "frozen": frozen, "ema": 1, "data": [1]},
        epoch=1,
        metrics={"loss": 0.5, "nan": math.nan},
    )
    b = manager.save_checkpoint(
        items={"model": {**other, **extra}, "frozen": frozen, "data": [2]},
        epoch=2,
        metrics={"loss": 0.25, "nan": math.nan, "score": 1.0},
    )
    return a, b


def test_diff_tells_every_tensor(pair):
    """Changed, of another shape or dtype, only on one side; equal ones are counted."""
    status, found = read("diff", *pair)
    items = {one["name"]: one for one in found["items"]}
    tensors = {one["name"]: one for one in items["model"]["tensors"]}

    assert (1, False) == (status, found["same"])
    assert {"model": "changed", "frozen": "equal", "ema": "only in A", "data": "changed"} == {
        name: one["verdict"] for name, one in items.items()
    }
    assert {"same": "equal", "moved": "changed", "shape": "shape", "dtype": "dtype", "count": "changed"} | {
        "old": "only in A",
        "new": "only in B",
    } == {name: one["verdict"] for name, one in tensors.items()}
    assert {"largest": 0.5, "mean": 0.125} == tensors["moved"]["change"]
    assert tensors["count"]["change"] is None
    assert [[0.5, 0.25], [None, None], [None, 1.0]] == list(found["metrics"].values())
    status, output = call("diff", *pair)
    for part in ("-0.25", "only in B", "F64 3 × 1", "0.125", "values that are no tensors"):
        assert part in output
    assert "F64 3 × 1" not in call("diff", *pair, "--brief")[1]


def test_diff_of_the_same_is_status_zero(pair, tmp_path):
    """Of one with itself, and with a copy; an equal file is not read."""
    status, output = call("diff", pair[0], pair[0])
    (pair[0] / "model.safetensors").unlink()

    assert (0, 0) == (status, output.count("changed"))
    assert 0 == call("diff", pair[0], pair[0])[0]
    status, output = call("diff", *pair)
    assert (2, True) == (status, "model.safetensors is missing" in output)
    assert 2 == call("diff", pair[0], tmp_path / "absent")[0]


def test_diff_without_numpy(pair, monkeypatch):
    """Says that there is more to know."""
    monkeypatch.setattr("mlc_core.commands.comparing.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "numpy", None)
    status, output = call("diff", *pair)

    assert 1 == status
    assert "Install numpy" in output
    assert "0.125" not in output


def test_diff_measures_half_floats(tmp_path):
    """Both kinds: they are what models are trained in."""
    torch = pytest.importorskip("torch")
    manager = CheckpointManager(tmp_path, "unet", retention=KeepAll())
    paths = [
        manager.save_checkpoint(
            items={
                "model": {str(kind): torch.tensor([1.0, value], dtype=kind) for kind in (torch.bfloat16, torch.half)}
            },
            epoch=epoch,
        )
        for epoch, value in ((1, 2.0), (2, 2.5))
    ]
    (model,) = read("diff", *paths)[1]["items"]

    assert [{"largest": 0.5, "mean": 0.25}] * 2 == [one["change"] for one in model["tensors"]]


# ---------------------------------------------------------------------- du


def test_du_says_what_is_shared(unet):
    """And what is on the disk in all; what lies beside the checkpoints too."""
    first, second = (unet / name / "state.json" for name in ("epoch_1", "epoch_2"))
    second.unlink()
    os.link(first, second)
    call("quarantine", unet / "epoch_4")
    status, (found,) = read("du", unet.parent.parent)
    rows = {(one["kind"], one["name"].partition("-")[0]): one for one in found["usage"]}

    assert 0 == status
    assert first.stat().st_size == rows["checkpoint", "epoch_2"]["shared"]
    assert ("quarantine", "epoch_4") in rows
    on_disk = {(one.stat().st_ino): one.stat().st_size for one in unet.rglob("epoch_*/*") if one.is_file()}
    assert sum(on_disk.values()) == rows["total", "total"]["freed"]
    output = call("du", unet)[1]
    for part in ("deleting it frees", "epoch_1", "quarantine", "total"):
        assert part in output


# ---------------------------------------------------------------------- URLs


def test_url_of_any_storage_will_do(memory_url):
    """For all that is not about files."""
    manager = CheckpointManager(memory_url, "unet", retention=KeepAll())
    for epoch in (1, 2, 3):
        manager.save_checkpoint(items={"data": 1}, epoch=epoch)
    unet = f"{memory_url}/unet"

    assert ["epoch_1", "epoch_2", "epoch_3"] == names(unet)
    assert [0, 0] == [call("verify", place)[0] for place in (unet, f"{unet}/latest")]
    assert "pinned" in call("pin", f"{unet}/epoch_1")[1]
    assert "restore" not in call("quarantine", f"{unet}/latest")[1]
    assert 0 == call("diff", f"{unet}/epoch_1", f"{unet}/latest")[0]
    call("prune", unet, "--policy", "latest,count=1", "--yes")
    assert ["epoch_1", "epoch_2"] == names(unet)
    assert "there (latest)" in call("why", f"{unet}/latest")[1]
    with pytest.raises(CheckpointNotFoundError, match="is not a checkpoint"):
        call("pin", f"{unet}/epoch_9")
    with pytest.raises(ConfigurationError, match="holds no plain files"):
        call("du", unet)


def test_url_of_a_directory_is_its_path(unet):
    """`file://` is as good as a path, for files too."""
    assert names(unet) == names(unet.as_uri())
    assert read("du", unet)[1] == read("du", unet.as_uri())[1]
    assert "pinned" in call("pin", f"{unet.as_uri()}/latest")[1]


def test_history_that_cannot_be_read_stops_no_command(unet, monkeypatch):
    """It is told, and `best` is left alone."""
    history = unet / ".mlc" / "history.jsonl"
    history.unlink()
    history.mkdir()
    status, output = call("repair", unet)

    assert 0 == status
    assert "The history cannot be read" in output
    assert "nothing is wrong" in output
