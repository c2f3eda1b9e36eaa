"""What is told of a resume: restored, not restored, changed, and where the run comes from."""

import json
import shutil
import subprocess
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import Images, Net

from mlc_core import open_checkpoint
from mlc_trainer import ExperimentManager, quick_training_setup, read_journal
from mlc_trainer.provenance import Provenance, factories_of, git_state
from mlc_trainer.resume_report import compare
from mlc_trainer.runs import read_run

FREQUENT = {"save_strategy": "interval", "strategy_options": {"every": 2, "unit": "steps"}}
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
FACTS = st.dictionaries(st.sampled_from(["threads", "git.commit", "plugins.a", "packages.b", "training.seed"]), VALUES)


@pytest.fixture
def run_dir(tmp_path):
    """Where the run lies."""
    return tmp_path / "run"


# ---------------------------------------------------------------------- differences


@given(before=FACTS, now=FACTS)
def test_every_key_that_differs_is_told_once(before, now):
    """With both values; what is the same is not told, and the other way round it is the same keys."""
    found = compare(before, now)

    assert [one.key for one in found] == [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    assert [(one.before, one.now) for one in found] == [(before.get(one.key), now.get(one.key)) for one in found]
    assert [one.key for one in found] == [one.key for one in compare(now, before)]


@given(before=FACTS, now=FACTS)
def test_commit_and_plugins_alone_are_no_reason_to_expect_other_bits(before, now):
    """Nor is a package that only one side knows."""
    for one in compare(before, now):
        known = one.key in before and one.key in now
        expected = not one.key.startswith(("git.", "plugins.")) and (known or not one.key.startswith("packages."))
        assert expected == one.matters


# ---------------------------------------------------------------------- reports


RICH = {
    "checkpoints": FREQUENT,
    "scheduler": {"name": "StepLR", "options": {"step_size": 2}},
    "early_stopping": {"patience": 5},
    "training": {"ema_decay": 0.9, "precision": "fp16"},
}


def test_resume_tells_what_was_restored_and_what_was_not(configure, run_dir, killer, killed):
    """Every item of the checkpoint is on one side or the other, with its size or where it stands."""
    with pytest.raises(killed):
        ExperimentManager(configure(**RICH), run_dir, observers=[killer(5)]).run()
    items = open_checkpoint(run_dir / "checkpoints/model/latest").saved.items
    experiment = ExperimentManager.from_run(run_dir)
    assert experiment.resume_report is None
    experiment.resume_training()
    report = experiment.resume_report

    assert ("epoch_2_step_4", 1, 1, 4, True) == (
        report.checkpoint, report.epoch, report.batch, report.step, report.to_the_bit
    )  # fmt: skip
    assert {*items} - {"engine"} <= {*report.restored, *report.not_restored}
    assert "epoch 2, batch 1, step 4" == report.restored["position"]
    assert "4 samples" == report.restored["means of the epoch"]
    assert "at 4" == report.restored["scheduler"].split(", ")[0]
    assert "scale 65536" == report.restored["scaler"]
    assert report.restored["model"].startswith("9 tensors, ")
    assert "the run has none" == report.not_restored["loss_scheduler"]
    assert "expected to be equal to the bit" == report.verdict


def test_report_is_in_the_journal_and_shown_again(configure, run_dir, mlc, killer, killed):
    """As it was returned; `mlc runs show` and the page show every resume."""
    with pytest.raises(killed):
        ExperimentManager(configure(checkpoints=FREQUENT), run_dir, observers=[killer(5)]).run()
    reports = []
    for step in (7, 99):
        experiment = ExperimentManager.from_run(run_dir, observers=[killer(step)])
        with suppress(killed):
            experiment.resume_training()
        reports.append(experiment.resume_report)
    lines = [line for line in read_journal(run_dir / "metrics.jsonl") if line["event"] == "resumed"]
    shown = mlc("runs", "show", run_dir).out
    mlc("runs", "report", run_dir)
    page = (run_dir / "report.html").read_text()

    assert [one.restored for one in reports] == [line["restored"] for line in lines]
    assert [one.verdict for one in read_run(run_dir).timeline.restarts] == [one.verdict for one in reports]
    assert 2 == shown.count("restored: model") == shown.count("the rest: expected to be equal to the bit")
    assert 2 == page.count("What was restored")
    assert reports[1].restored["position"] in page


def test_command_prints_a_table_and_gives_the_report_as_data(trained_copy, mlc):
    """For people, and for programs."""
    shown = mlc("resume", trained_copy, "--epochs", 1)
    told = mlc("resume", trained_copy, "--epochs", 1, "--json").json["resume"]

    assert 0 == shown.code
    assert "Resumed from epoch_3" in shown.out
    assert all(word in shown.out for word in ("not restored", "random generators", "the rest", "equal to the bit"))
    assert ("epoch_4", 12, True) == (told["checkpoint"], told["step"], told["to_the_bit"])


def test_checkpoint_that_is_passed_over_is_told(configure, run_dir, killer, killed):
    """With the cause."""
    with pytest.raises(killed):
        ExperimentManager(configure(checkpoints=FREQUENT), run_dir, observers=[killer(6)]).run()
    (run_dir / "checkpoints/model/latest/model.safetensors").unlink()
    experiment = ExperimentManager.from_run(run_dir)
    with pytest.warns(UserWarning, match="not what cannot be used"):
        experiment.resume_training()

    assert "model.safetensors is missing" in experiment.resume_report.passed_over[0]
    assert "passed over" == next(experiment.resume_report.rows())[0]


def test_loop_of_ones_own_reports_too(tmp_path):
    """The same record, from the other door."""
    import torch

    def begin():
        manager, model = quick_training_setup(tmp_path, "net"), Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        manager.resume(model, optimizer)
        return manager, model, optimizer

    manager, model, optimizer = begin()
    assert manager.resume_report is None
    loader = manager.loader(Images(length=8, channels=1, first=0), batch_size=4)
    for batch in manager.batches(loader):
        manager.train_step(model, batch, optimizer)
    manager.save_checkpoint(model, optimizer, None, 0, {"val_dice": 0.5, "val_loss": 0.5})
    again, *_ = begin()
    environment = json.loads((tmp_path / "environment.json").read_text())

    assert "epoch 2, batch 0, step 2" == again.resume_report.restored["position"]
    assert again.resume_report.to_the_bit
    assert {"torch", "threads", "memory format", "packages.mlc-trainer", "plugins.mlc-trainer"} <= {*environment}


# ---------------------------------------------------------------------- where a run comes from


def git(place, *words):
    """Run it there, as nobody in particular."""
    someone = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main")
    return subprocess.run(["git", *someone, *words], cwd=place, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit."""
    if shutil.which("git") is None:
        pytest.skip("there is no git here")
    place = tmp_path / "code"
    place.mkdir()
    (place / "train.py").write_text("1")
    git(place, "init")
    git(place, "add", ".")
    git(place, "commit", "-m", "first")
    return place


def test_git_tells_commit_and_changes(repository):
    """Of tracked files, from below too; it writes nothing."""
    commit = git(repository, "rev-parse", "HEAD").strip()
    (repository / "notes.txt").write_text("not tracked")
    (repository / "below").mkdir()

    assert {"git.commit": commit, "git.changes": "none"} == git_state(repository / "below")
    (repository / "train.py").write_text("2")
    assert {"git.commit": commit, "git.changes": "some"} == git_state(repository)


def test_git_is_asked_about_the_directory_and_tells_no_commit_that_is_none(tmp_path, repository, monkeypatch):
    """Whatever a hook of another repository has set."""
    expected = git_state(repository)
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    assert {} == git_state(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))

    assert expected == git_state(repository)
    assert {} != expected


def test_without_git_or_repository_nothing_is_told(tmp_path, repository, monkeypatch):
    """And nothing fails: not in a directory that is gone, not with a git that cannot be run or hangs."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert {} == git_state(tmp_path)
    assert {} == git_state(tmp_path / "gone")
    assert not any(one.startswith("git.") for one in Provenance(place=None).facts)
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (fake / "git").chmod(0o755)
    monkeypatch.setattr("mlc_trainer.provenance.PATIENCE", 0.1)
    monkeypatch.setenv("PATH", f"{fake}:/bin:/usr/bin")
    assert {} == git_state(repository)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {} == git_state(repository)


def test_commit_and_versions_are_in_run_and_checkpoint_and_told_when_they_change(
    configure, run_dir, repository, monkeypatch, recwarn
):
    """Which alone neither warns nor refuses: the rest is expected to be the same, if the code is."""
    monkeypatch.chdir(repository)
    monkeypatch.setattr("mlc_trainer.provenance.git_state", git_state)
    ExperimentManager(configure(), run_dir).run()
    commit = git(repository, "rev-parse", "HEAD").strip()
    kept = json.loads((run_dir / "environment.json").read_text())
    saved = open_checkpoint(run_dir / "checkpoints/model/latest").load(only="environment")["environment"]
    (repository / "train.py").write_text("2")
    git(repository, "commit", "-am", "second")
    experiment = ExperimentManager.from_run(run_dir)
    experiment.resume_training(1)
    (difference,) = experiment.resume_report.differences

    assert kept == saved
    assert commit == saved["git.commit"]
    assert {"packages.mlc-core", "plugins.mlc-trainer", "memory format", "threads"} <= {*saved}
    assert ("git.commit", commit) == (difference.key, difference.before)
    assert "expected to be equal to the bit, if the code still does the same" == experiment.resume_report.verdict
    assert [] == [one for one in recwarn if "equal to the bit" in str(one.message)]


def test_packages_are_those_whose_classes_are_named(configure):
    """Beside ours: a version by metadata, or as the module says itself."""
    config = configure(model={"factory": "torch.nn:Linear"}, metrics={"factory": "tiny:Accuracy"})
    assert ("tiny", "torch") == factories_of(config)
    facts = Provenance(factories_of(config)).facts

    assert "packages.torch" in facts
    assert "packages.tiny" not in facts  # a module without a version
    assert all(isinstance(one, str) for one in facts.values())
