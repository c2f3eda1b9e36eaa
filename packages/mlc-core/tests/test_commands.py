"""`mlc checkpoints`: tables for people, JSON for programs, and exit statuses for scripts."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlc_core import CheckpointManager, CheckpointNotFoundError, StorageError
from mlc_core.commands import checkpoints
from mlc_core.retention import KeepAll
from mlc_core.storage import LocalStorage
from mlc_hooks.cli import main


@pytest.fixture
def run_directory(tmp_path):
    """A run with two models, links, metrics of all kinds, a middle of an epoch, and a directory that is none."""
    base = tmp_path / "runs" / "today"
    manager = CheckpointManager(
        base / "checkpoints", "unet", "epoch", None, "score", "max", retention=KeepAll(), run="r1"
    )
    manager.save_checkpoint(items={"a": 1}, epoch=1, step=10, metrics={"score": 0.5, "loss": math.nan})
    manager.save_checkpoint(items={"a": 2}, epoch=2, step=15, epoch_ended=False, reason="signal; preempted")
    manager.save_checkpoint(items={"a": 3}, epoch=2, step=20, metrics={"score": 0.4, **{f"m{n}": n for n in range(9)}})
    CheckpointManager(base / "checkpoints", "tiny").save_checkpoint(items={"a": 1}, reason="test")
    (base / "checkpoints" / "empty").mkdir()
    (base / "checkpoints" / ".hidden").mkdir()
    return base


def call(*arguments):
    """Run the command and return its exit status and what it printed."""
    result = CliRunner().invoke(checkpoints, [str(one) for one in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def read(*arguments):
    """Run the command with --json and return what it says, which must be JSON that every reader takes."""

    def refuse(constant):
        raise AssertionError(constant)

    status, output = call(*arguments, "--json")
    return status, json.loads(output, parse_constant=refuse)


@pytest.mark.parametrize("below", ["", "..", "checkpoints", "checkpoints/unet"])
def test_ls_finds_checkpoints_at_and_below(run_directory, below):
    """A run, a directory of runs, a directory of models or one model."""
    status, output = call("ls", run_directory / below)

    assert 0 == status
    for part in (
        "epoch_1 ",
        "epoch_2_step_15",
        "signal; preempted",
        "score 0.5",
        "m0 0",
        "…",
        "unet",
        "best",
        "latest",
    ):
        assert part in output
    assert ("tiny" in output) == (below != "checkpoints/unet")


def test_ls_as_json(run_directory):
    """Every fact of every manifest, links, and null for what is no number."""
    status, shelves = read("ls", run_directory)
    tiny, unet = shelves

    assert 0 == status
    assert [str(run_directory / "checkpoints" / name) for name in ("tiny", "unet")] == [
        one["location"] for one in shelves
    ]
    assert ["epoch_1", "epoch_2_step_15", "epoch_2"] == [one["name"] for one in unet["checkpoints"]]
    assert {"best": "epoch_1", "latest": "epoch_2"} == unet["pointers"]
    assert {"score": 0.5, "loss": None} == unet["checkpoints"][0]["metrics"]
    assert ["signal", "preempted"] == unet["checkpoints"][1]["reasons"]
    assert [1, 2, 3] == [one["sequence"] for one in unet["checkpoints"]]
    assert ["state.json"] == [file["name"] for file in unet["checkpoints"][0]["files"]]
    assert {} == unet["damaged"] == tiny["damaged"]


def test_ls_shows_what_is_damaged(run_directory):
    """With the reason; it is no failure of the command."""
    (run_directory / "checkpoints" / "unet" / "epoch_1" / "manifest.json").write_text("{}")
    status, output = call("ls", run_directory)
    _, shelves = read("ls", run_directory)

    assert 0 == status
    assert "damaged: epoch_1: " in output
    assert "its digest does not match its content" in output
    assert ["epoch_1"] == list(shelves[1]["damaged"])


def test_show_one(run_directory):
    """By path or by link, with files, and without what there is not."""
    status, output = call("show", run_directory / "checkpoints" / "unet" / "best")

    assert 0 == status
    for part in (
        "checkpoint  ",
        "epoch       1\n",
        "step        10",
        "run         r1",
        "score=0.5, loss=nan",
        "holds       a",
    ):
        assert part in output
    assert "state.json" in output
    assert "Model" not in output
    middle = call("show", run_directory / "checkpoints" / "unet" / "epoch_2_step_15")[1]
    assert "2 (in the middle)" in middle
    assert "because: signal; preempted" in middle
    assert "metrics" not in middle
    assert "epoch" not in call("show", run_directory / "checkpoints" / "tiny" / "checkpoint")[1].replace("epochs", "")


def test_show_one_as_json(run_directory):
    """The facts, and the tensors of each item."""
    status, found = read("show", run_directory / "checkpoints" / "unet" / "epoch_1")

    assert (0, "epoch_1", {"a": {}}) == (status, found["name"], found["tensors"])
    assert str(run_directory / "checkpoints" / "unet" / "epoch_1") == found["location"]


def test_show_tensors(tmp_path):
    """Dtype and shape of the model's, read from headers."""
    np = pytest.importorskip("numpy")
    model = {"layer.weight": np.zeros((3, 4), np.float32), "steps": np.array(7)}
    path = CheckpointManager(tmp_path, "unet").save_checkpoint(model, epoch=1)
    output = call("show", path)[1]

    assert "layer.weight" in output
    assert "F32" in output
    assert "3 × 4" in output
    assert {"model": {"layer.weight": ["F32", [3, 4]], "steps": ["I64", []]}} == read("show", path)[1]["tensors"]


def test_verify_all_and_one(run_directory):
    """Status 0 and a line for each."""
    status, output = call("verify", run_directory)

    assert 0 == status
    assert 4 == output.count("ok ")
    assert (0, 1) == (call("verify", run_directory / "checkpoints/unet/latest")[0], len(output.splitlines()) - 3)
    assert [True] * 4 == [one["valid"] for one in read("verify", run_directory)[1]]


def test_verify_finds_what_is_wrong(run_directory, monkeypatch):
    """Status 1, every fault with its cause, and the sound ones named as such."""
    root = run_directory / "checkpoints" / "unet"
    (root / "epoch_1" / "state.json").write_text('{"a":7}')
    (root / "epoch_2" / "manifest.json").write_text("torn")
    (root / "epoch_2_step_15" / "state.json").unlink()
    status, output = call("verify", run_directory)
    _, results = read("verify", run_directory)

    assert (1, 3, 1) == (status, output.count("CORRUPT"), output.count("ok "))
    assert {"epoch_1": False, "epoch_2": False, "epoch_2_step_15": False, "checkpoint": True} == {
        one["location"].rpartition("/")[2]: one["valid"] for one in results
    }
    for name, cause in (("epoch_1", "digest does not match"), ("epoch_2", "cannot be believed")):
        status, (found,) = read("verify", root / name)
        assert (1, False) == (status, found["valid"])
        assert cause in found["cause"]


def test_verify_goes_on_where_the_disk_does_not(run_directory, monkeypatch):
    """One unreadable file is one line of the result."""
    read_file = LocalStorage.read

    def fail(self, entry, file):
        if (entry, file) == ("epoch_1", "state.json"):
            msg = "Input/output error"
            raise StorageError(msg)
        return read_file(self, entry, file)

    monkeypatch.setattr(LocalStorage, "read", fail)
    status, results = read("verify", run_directory)

    assert 1 == status
    assert ["Input/output error"] == [one["cause"] for one in results if not one["valid"]]


@pytest.mark.parametrize("command", ["ls", "verify"])
def test_nothing_there_is_one_line_and_status_one(tmp_path, capsys, command):
    """An empty directory, a missing one, and for `ls` a checkpoint instead of a directory of them."""
    path = CheckpointManager(tmp_path, "unet").save_checkpoint(items={"a": 1}, epoch=1)
    (tmp_path / "empty").mkdir()
    places = {"empty": "no checkpoints in .*empty; training saves the first one", "absent": "absent is not a directory"}

    for place, message in places.items():
        with pytest.raises(CheckpointNotFoundError, match=message):
            CliRunner().invoke(checkpoints, [command, str(tmp_path / place)], catch_exceptions=False)
        with pytest.raises(SystemExit, match="1"):
            main(["checkpoints", command, str(tmp_path / place)])
        assert capsys.readouterr().err.startswith("Error: ")
    with pytest.raises(CheckpointNotFoundError, match=r"is one checkpoint; `mlc checkpoints show .*` shows it"):
        CliRunner().invoke(checkpoints, ["ls", str(path)], catch_exceptions=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_what_may_not_be_looked_into_is_left_out(run_directory):
    """And the rest is listed."""
    (run_directory / "checkpoints" / "tiny").chmod(0)
    status, output = call("ls", run_directory)
    (run_directory / "checkpoints" / "tiny").chmod(0o700)

    assert 0 == status
    assert "unet" in output


def test_what_may_not_be_looked_into_is_left_out_for_root_too(run_directory, monkeypatch):
    """As above, where nothing is forbidden."""
    path = type(run_directory)

    def forbid(real):
        def call(self):
            if "tiny" in str(self):
                raise PermissionError(13, "Permission denied", str(self))
            return real(self)

        return call

    monkeypatch.setattr(path, "is_file", forbid(path.is_file))
    monkeypatch.setattr(os, "scandir", forbid(os.scandir))
    status, output = call("ls", run_directory)

    assert 0 == status
    assert "unet" in output
    assert "tiny" not in output


def test_command_line_itself(run_directory):
    """`mlc checkpoints` as people call it."""
    script = shutil.which("mlc", path=str(Path(sys.executable).parent)) or shutil.which("mlc")
    if script is None:
        pytest.skip("the `mlc` script is not installed beside this interpreter")
    done = subprocess.run([script, "checkpoints", "ls"], cwd=run_directory, check=True, capture_output=True, text=True)

    assert "epoch_2_step_15" in done.stdout
