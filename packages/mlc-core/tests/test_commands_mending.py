"""`verify`, `quarantine`, `restore` and `repair`: what they say, ask and do, and that what is kept still loads."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlc_core import (
    CheckpointManager,
    CheckpointNotFoundError,
    CheckpointWarning,
    ConfigurationError,
    EntryExistsError,
    open_checkpoint,
)
from mlc_core.commands import checkpoints, progress
from mlc_core.retention import KeepAll
from mlc_core.storage import LocalStorage


@pytest.fixture
def unet(tmp_path):
    """A run with three epochs of one model, the second the best."""
    base = tmp_path / "run" / "checkpoints"
    manager = CheckpointManager(base, "unet", "epoch", None, "score", "max", retention=KeepAll())
    for epoch, score in ((1, 0.5), (2, 0.9), (3, 0.7)):
        manager.save_checkpoint(items={"data": f"epoch {epoch}"}, epoch=epoch, metrics={"score": score})
    return base / "unet"


def call(*arguments, answer=None):
    """Run the command and return its exit status and what it printed."""
    result = CliRunner().invoke(checkpoints, [str(one) for one in arguments], input=answer, catch_exceptions=False)
    return result.exit_code, result.output


def read(*arguments):
    """Run the command with --json."""
    status, output = call(*arguments, "--json")
    return status, json.loads(output)


def damage(checkpoint):
    """Change a byte."""
    path = checkpoint / "state.json"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def latest(unet):
    """What `latest` loads."""
    return CheckpointManager(unet.parent, "unet").load_checkpoint("latest").state["data"]


# ---------------------------------------------------------------------- verify


def test_verify_says_each_fault_of_each_file(unet):
    """And tells programs which of them are certain."""
    damage(unet / "epoch_1")
    status, found = read("verify", unet.parent)

    assert 1 == status
    assert [False, True, True] == [one["valid"] for one in found]
    assert [("state.json", True)] == [(one["file"], one["corrupt"]) for one in found[0]["damages"]]
    damage(unet / "epoch_3")
    with pytest.warns(CheckpointWarning, match="epoch_3"):
        assert "epoch 2" == latest(unet)


def test_verify_shows_a_bar_on_a_terminal_only(unet, monkeypatch, capsys):
    """On standard error, for long work."""
    monkeypatch.setattr(progress, "LONG", 1)
    assert "verifying" not in call("verify", unet)[1]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress.progress("verifying", 10) as advance:
        advance(10)

    assert "verifying" in capsys.readouterr().err


def test_verify_of_what_is_in_quarantine(unet):
    """By its path, as any checkpoint."""
    where = read("quarantine", unet / "epoch_1")[1][0]["quarantined_to"]

    assert (0, True) == (call("verify", where)[0], read("verify", where)[1][0]["valid"])


# ---------------------------------------------------------------------- quarantine and restore


def test_quarantine_one_and_take_it_back(unet):
    """Links follow both ways, and what is kept loads."""
    assert "nothing is in quarantine" in call("ls", unet, "--quarantined")[1]
    status, output = call("quarantine", unet / "latest", "--reason", "wrong data", "--metric", "score", "--mode", "max")

    assert 0 == status
    for part in ("set aside", "epoch_3: wrong data", "latest now leads to epoch_2", "Nothing was deleted"):
        assert part in output
    assert "epoch 2" == latest(unet)
    ((aside,),) = [one["quarantined"] for one in read("ls", unet, "--quarantined")[1]]
    assert ("epoch_3", 1) == (aside["name"], call("ls", unet, "--quarantined")[1].count("wrong data"))
    status, output = call("restore", aside["path"])
    assert (0, True, True) == (status, "restored" in output, "latest now leads to epoch_3" in output)
    assert "epoch 3" == latest(unet)
    assert "still corrupt" not in output


def test_quarantine_all_that_is_corrupt(unet):
    """And only that, manifests too; a dry run says so and does nothing."""
    damage(unet / "epoch_1")
    (unet / "epoch_2" / "manifest.json").write_text("torn")
    status, output = call("quarantine", unet.parent, "--corrupt", "--dry-run")

    assert (0, 2) == (status, output.count("would set aside"))
    assert (unet / "epoch_1").exists()
    status, output = call("quarantine", unet.parent, "--corrupt")
    assert (0, 2) == (status, output.count("set aside  "))
    assert ["epoch_3"] == [one["name"] for one in read("ls", unet)[1][0]["checkpoints"]]
    assert (0, "nothing is corrupt\n") == call("quarantine", unet.parent, "--corrupt")
    assert "epoch 3" == latest(unet)


def test_quarantine_of_the_last_one_is_not_the_end(unet):
    """What was set aside can be listed and taken back where nothing else is left."""
    for number in (1, 2, 3):
        call("quarantine", unet / f"epoch_{number}")
    with pytest.raises(CheckpointNotFoundError, match="no checkpoints in"):
        call("ls", unet)

    paths = [one["path"] for one in read("ls", unet, "--quarantined")[1][0]["quarantined"]]
    assert 3 == len(paths)
    assert "restored" in call("restore", paths[0])[1]
    assert "epoch 1" == latest(unet)


def test_quarantine_of_what_is_none_says_what_to_do(unet):
    """A directory, a place that is none, and one that is in quarantine already."""
    with pytest.raises(CheckpointNotFoundError, match="with --corrupt, all corrupt ones in a directory"):
        call("quarantine", unet)
    where = read("quarantine", unet / "epoch_1")[1][0]["quarantined_to"]
    with pytest.raises(ConfigurationError, match=r"is in quarantine; `mlc checkpoints restore .*` puts it back"):
        call("quarantine", where)
    with pytest.raises(CheckpointNotFoundError, match="is not in quarantine"):
        call("restore", unet / "epoch_2")
    with pytest.raises(CheckpointNotFoundError, match="is not there"):
        call("restore", f"{where}x")


def test_restore_says_if_it_is_still_corrupt(unet):
    """And overwrites nothing."""
    damage(unet / "epoch_1")
    (found,) = read("quarantine", unet / "epoch_1")[1]
    shutil.copytree(unet / "epoch_2", unet / "epoch_1")
    with pytest.raises(EntryExistsError, match="--as"):
        call("restore", found["quarantined_to"])
    status, output = call("restore", found["quarantined_to"], "--as", "epoch_1_old")

    assert 0 == status
    assert "It is still corrupt" in output
    assert "mlc checkpoints repair" in output
    assert [False] == [one["valid"] for one in read("verify", unet)[1] if one["location"].endswith("_old")]


# ---------------------------------------------------------------------- repair


def test_repair_asks_and_does(unet, tmp_path):
    """A plan first, then a question, then the deed; the exit status says whether all is well."""
    shutil.copytree(unet, tmp_path / "copy" / "unet", symlinks=True)
    damage(unet / "epoch_3")
    status, output = call("repair", unet, "--from", tmp_path / "copy", answer="n\n")

    assert (1, 1) == (status, output.count("-> put back from"))
    assert not read("verify", unet / "epoch_3")[1][0]["valid"]
    status, output = call("repair", unet, "--from", tmp_path / "copy", answer="y\n")
    assert (0, True) == (status, "1 of 1 done" in output)
    assert 0 == call("verify", unet)[0]
    assert "epoch 3" == latest(unet)
    assert (0, f"{unet}: nothing is wrong\n") == call("repair", unet)


def test_repair_without_an_answer_does_nothing(unet):
    """A script that forgot --yes is not taken at its word."""
    (unet / "latest").unlink()
    status, output = call("repair", unet, answer="")

    assert 1 == status
    assert "latest: it is missing" in output
    assert not (unet / "latest").exists()


def test_repair_dry_run_and_contradictions(unet):
    """`--dry-run` changes nothing; with --json one of the two answers is needed."""
    (unet / "latest").unlink()
    status, (found,) = read("repair", unet, "--dry-run")

    assert 1 == status
    assert [("link", "latest", False)] == [(one["kind"], one["what"], one["done"]) for one in found["repairs"]]
    assert not (unet / "latest").exists()
    assert (2, True) == ((result := call("repair", unet, "--json"))[0], "give --yes or --dry-run" in result[1])
    assert (2, True) == ((result := call("repair", unet, "-y", "-n"))[0], "contradict each other" in result[1])
    status, (found,) = read("repair", unet, "--yes")
    assert (0, [True]) == (status, [one["done"] for one in found["repairs"]])


def test_repair_of_the_hopeless(unet):
    """Told, with what can be done; set aside only if that is asked for, and `latest` loads loudly meanwhile."""
    damage(unet / "epoch_3")
    status, output = call("repair", unet, "--yes")

    assert 1 == status
    assert "epoch_3/state.json was changed" in output
    assert "give --from COPY" in output
    with pytest.warns(CheckpointWarning, match="epoch_3"):
        assert "epoch 2" == latest(unet)
    status, output = call("repair", unet, "--yes", "--quarantine", "--metric", "score", "--mode", "max")
    assert 0 == status
    assert "epoch 2" == latest(unet)
    assert {"best": "epoch_2", "latest": "epoch_2"} == dict(LocalStorage(unet).pointers())


def test_repair_of_one(unet, tmp_path):
    """By its path, or by a link to it."""
    shutil.copytree(unet, tmp_path / "copy", symlinks=True)
    for number in (1, 3):
        damage(unet / f"epoch_{number}")

    assert 0 == call("repair", unet / "latest", "--from", tmp_path / "copy" / "epoch_3", "--yes")[0]
    assert [False, True, True] == [one["valid"] for one in read("verify", unet)[1]]


def test_repair_goes_on_after_a_failure(unet, monkeypatch):
    """And says what was not done."""
    for link in ("latest", "best"):
        (unet / link).unlink()
    (unet / "latest").mkdir()
    status, output = call("repair", unet, "--metric", "score", "--mode", "max", "--yes")

    assert 1 == status
    assert "1 of 2 done" in output
    assert "not done: latest" in output
    assert "epoch_2" == str((unet / "best").readlink())


def test_repair_sweeps(unet):
    """What is left of interrupted saves, also where no checkpoint is left."""
    for path in (unet / ".mlc" / "staging" / "abc", unet / ".mlc" / "trash" / "def"):
        path.mkdir(parents=True, exist_ok=True)
        os.utime(path, (1, 1))
    for number in (1, 2, 3):
        shutil.rmtree(unet / f"epoch_{number}")
    status, output = call("repair", unet, "--yes")

    assert 0 == status
    assert ".mlc/staging/abc: a save that was interrupted" in output
    assert [[], []] == [list((unet / ".mlc" / name).iterdir()) for name in ("staging", "trash")]


def test_repair_works_on_files_only(memory_url):
    """Said before anything is looked at."""
    with pytest.raises(ConfigurationError, match="holds no plain files"):
        call("repair", memory_url)


def test_half_a_metric_is_refused(unet):
    """With an example."""
    with pytest.raises(ConfigurationError, match="go together, as --metric val_dice --mode max"):
        call("repair", unet, "--metric", "score")


# ---------------------------------------------------------------------- the process


def test_exit_status_and_streams_of_the_process(unet):
    """Errors on standard error, one line, status 1; `verify` tells scripts."""
    script = shutil.which("mlc", path=str(Path(sys.executable).parent)) or shutil.which("mlc")
    if script is None:
        pytest.skip("the `mlc` script is not installed beside this interpreter")

    def run(*arguments):
        return subprocess.run(
            [script, "checkpoints", *arguments], cwd=unet, check=False, capture_output=True, text=True
        )

    damage(unet / "epoch_1")
    assert 1 == run("verify").returncode
    done = run("repair", "--quarantine", "--yes")
    assert (0, "") == (done.returncode, done.stderr)
    assert 0 == run("verify").returncode
    missing = run("quarantine", "epoch_9")
    assert (1, "") == (missing.returncode, missing.stdout)
    assert missing.stderr.startswith("Error: epoch_9 is not a checkpoint")
    assert "epoch 2" == open_checkpoint(unet / "epoch_2").load()["data"]
