"""Going on from an older checkpoint, and going on beyond the end."""

import json
import shutil

import pytest

from mlc_core import CheckpointNotFoundError, CheckpointWarning, open_checkpoint, open_storage
from mlc_trainer import ExperimentManager, RunError
from mlc_trainer.branching import read_branch


@pytest.fixture
def begun(trained_copy, killer, killed):
    """A run of three epochs that went on from its first and died before anything was saved."""
    experiment = ExperimentManager.from_run(trained_copy, observers=[killer(4)])
    with pytest.raises(killed):
        experiment.run(resume_from_checkpoint="epoch_1")
    return trained_copy


def latest(run_dir):
    """Return the step of the checkpoint that was committed last."""
    return open_checkpoint(run_dir / "checkpoints/model/latest").saved.step


def test_decision_outlives_death(begun):
    """The newest checkpoint is that of what was given up, and is not what the run goes on from."""
    assert 9 == latest(begun)
    experiment = ExperimentManager.from_run(begun)
    experiment.resume_training()

    assert ("epoch_1", 3) == (experiment.resume_report.checkpoint, experiment.resume_report.step)


def test_from_the_first_save_on_the_latest_is_the_latest(begun, killer, killed):
    """As in any run; so it is if death comes again and again."""
    for step, source in ((5, "epoch_1"), (7, "epoch_1"), (8, 6), (99, 6)):
        experiment = ExperimentManager.from_run(begun, observers=[killer(step)])
        if step == 99:
            experiment.resume_training()
        else:
            with pytest.raises(killed):
                experiment.resume_training()
        report = experiment.resume_report
        assert source in (report.checkpoint, report.step)
    assert 9 == latest(begun)


def test_whoever_names_the_newest_takes_the_decision_back(begun, killer, killed):
    """By its name: it is the newest line again, for later restarts too."""
    ExperimentManager.from_run(begun).run(resume_from_checkpoint="epoch_3")
    with pytest.raises(killed):
        ExperimentManager.from_run(begun, observers=[killer(10)]).resume_training(1)
    experiment = ExperimentManager.from_run(begun)
    experiment.resume_training()

    assert "epoch_3" == experiment.resume_report.checkpoint
    assert not (begun / "branch.json").exists()


def test_what_was_given_up_does_not_stand_in_for_what_is_corrupt(begun, killer, killed):
    """Of the line that the run is on, the newest valid one is where it began."""
    with pytest.raises(killed):
        ExperimentManager.from_run(begun, observers=[killer(7)]).resume_training()
    file = begun / "checkpoints/model/latest/model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    experiment = ExperimentManager.from_run(begun)
    with pytest.warns(CheckpointWarning, match="not what cannot be used"):
        experiment.resume_training()

    assert ("epoch_1", 3) == (experiment.resume_report.checkpoint, experiment.resume_report.step)
    corrupt, given_up = experiment.resume_report.passed_over
    assert "model.safetensors" in corrupt
    assert "epoch_3: is of the line that was given up" == given_up


def test_run_that_began_from_a_checkpoint_of_another(trained, tmp_path, configure, killer, killed, monkeypatch):
    """Goes on from there after a death before its first save, from whatever directory it is resumed."""
    shutil.copytree(trained / "checkpoints/model/epoch_2", tmp_path / "source")
    monkeypatch.chdir(tmp_path)
    experiment = ExperimentManager(configure(), tmp_path / "run", observers=[killer(7)])
    with pytest.raises(killed):
        experiment.run(resume_from_checkpoint="./source")
    monkeypatch.chdir("/")
    experiment = ExperimentManager.from_run(tmp_path / "run")
    experiment.resume_training()

    assert (2, 6) == (experiment.resume_report.epoch, experiment.resume_report.step)


def test_run_that_begins_anew_forgets_it(trained, tmp_path, configure, killer, killed):
    """Whoever trains from the beginning in the same directory goes on from nowhere else."""
    for source in (trained / "checkpoints/model/epoch_2", None):
        experiment = ExperimentManager(configure(), tmp_path / "run", observers=[killer(1)])
        with pytest.raises(killed):
            experiment.run(resume_from_checkpoint=source)

    assert not (tmp_path / "run/branch.json").exists()


BRANCH = {"source": "epoch_1", "id": "x", "newest": 3}


@pytest.mark.parametrize(
    "content",
    [
        {"from": 1}, [], None, 1, {**BRANCH, "source": 1}, {**BRANCH, "source": ""}, {**BRANCH, "source": "latest"},
        {**BRANCH, "source": "best"}, {**BRANCH, "id": None}, {**BRANCH, "newest": "3"}, {**BRANCH, "newest": True},
        {**BRANCH, "newest": -1}, {**BRANCH, "pinned": 1},
    ],
    ids=str,
)  # fmt: skip
def test_decision_that_makes_no_sense_cannot_be_read(content, tmp_path):
    """Whatever is wrong with it."""
    file = tmp_path / "branch.json"
    file.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"branch.json does not say where the run was to go on; remove it"):
        read_branch(file)


def pins(run_dir):
    """Return what is pinned."""
    pointers = open_storage(str(run_dir / "checkpoints/model")).pointers()
    return {entry for name, entry in pointers.items() if name.startswith("pin")}


def test_source_stays_until_two_of_the_new_line_can_stand_in_for_it(begun, killer, killed):
    """It is what there is to go on from if the first of them is corrupt; then retention has it again."""
    assert {"epoch_1"} == pins(begun)
    with pytest.raises(killed):
        ExperimentManager.from_run(begun, observers=[killer(7)]).resume_training()
    assert {"epoch_1"} == pins(begun)
    ExperimentManager.from_run(begun).resume_training()

    assert set() == pins(begun)


def test_pin_of_somebody_else_is_left_alone(trained_copy, killer, killed):
    """And one of ours goes with the decision that it was made for."""
    experiment = ExperimentManager.from_run(trained_copy, observers=[killer(4)])
    experiment.checkpoints.pin("epoch_1")
    with pytest.raises(killed):
        experiment.run(resume_from_checkpoint="epoch_1")
    with pytest.raises(killed):
        ExperimentManager.from_run(trained_copy, observers=[killer(7)]).run(resume_from_checkpoint="epoch_2")
    assert {"epoch_1", "epoch_2"} == pins(trained_copy)
    ExperimentManager.from_run(trained_copy).run(resume_from_checkpoint="epoch_3")

    assert {"epoch_1"} == pins(trained_copy)


def test_source_that_is_gone_is_named_with_the_way_out(begun):
    """The file says why it is wanted."""
    shutil.rmtree(begun / "checkpoints/model/epoch_1")
    with pytest.raises(CheckpointNotFoundError, match=r"epoch_1.*branch.json says .* remove the file"):
        ExperimentManager.from_run(begun).resume_training()
    (begun / "branch.json").unlink()
    experiment = ExperimentManager.from_run(begun)
    experiment.resume_training()

    assert "epoch_3" == experiment.resume_report.checkpoint


def test_decision_that_cannot_be_read_is_no_guess(begun):
    """The file is named, and the way out."""
    (begun / "branch.json").write_text(json.dumps({"from": 1}))
    with pytest.raises(RunError, match=r"branch.json does not say where the run was to go on; remove it"):
        ExperimentManager.from_run(begun).resume_training()


def test_final_leads_to_no_end_that_is_none(trained_copy, killer, killed):
    """While a run is extended there is no final checkpoint; at its end there is one again."""
    final = trained_copy / "checkpoints/model/final"
    assert 9 == open_checkpoint(final).saved.step
    seen = []
    watching = killer(10)
    watching.at["step_ended"] = lambda position: seen.append(final.exists())
    ExperimentManager.from_run(trained_copy, observers=[watching]).resume_training(1)
    with pytest.raises(killed):
        ExperimentManager.from_run(trained_copy, observers=[killer(14)]).resume_training(1)
    assert [False] * 3 == seen
    assert not final.exists()
    ExperimentManager.from_run(trained_copy).resume_training()

    assert 15 == open_checkpoint(final).saved.step
