"""What proves that an experiment resumes, and what finds out that it does not."""

import json

import pytest

from mlc_trainer import ProofError, RunError, from_data, prove

pytestmark = pytest.mark.slow


@pytest.fixture
def checked(configure, tmp_path):
    """Prove the tiny experiment, changed table by table."""
    return lambda steps=None, kill_at=None, **tables: prove(
        configure(**tables), tmp_path / "proof", steps=steps, kill_at=kill_at
    )


def test_an_experiment_that_resumes(checked):
    """Killed in its second epoch, with everything on."""
    proof = checked(
        training={"precision": "fp16", "ema_decay": 0.9, "num_epochs": 3},
        loss={"preset": "default_segmentation", "config": {"scheduler": {"type": "adaptive"}}},
        scheduler={"name": "OneCycleLR", "options": {"max_lr": 0.1}},
    )
    assert (7, 4) == (proof.steps, proof.killed_at)
    assert 1 <= proof.resumed_from <= 4


@pytest.mark.parametrize(
    ("tables", "stream"),
    [
        ({"data": {"factory": "tiny:Moody"}}, "batch"),
        ({"model": {"factory": "tiny:Forgetful"}}, "loss"),
        ({"optimizer": {"name": "tiny:Amnesiac", "options": {"lr": 0.1}}}, "weights"),
    ],
)
def test_what_does_not_resume_is_named(tables, stream, checked):
    """With the first step that parts, and the stream."""
    with pytest.raises(ProofError, match=f"differs after it was killed at step 4, first in: {stream}") as caught:
        checked(**tables)
    assert stream == caught.value.stream
    assert caught.value.step <= 5


def test_what_does_not_repeat_is_named(checked):
    """Before it is even killed."""
    with pytest.raises(ProofError, match=r"before it was killed, first in: batch.*does not even repeat itself"):
        checked(data={"factory": "tiny:Timely"})


def test_bad_questions(checked, tmp_path, configure):
    """Are answered before much is trained, or with what the run said."""
    with pytest.raises(RunError, match="kill_at=5 must be a step from 2 to 4"):
        checked(steps=5, kill_at=5)
    with pytest.raises(RunError, match="holds something"):
        checked()
    with pytest.raises(RunError, match=r"ended with status 1: [\s\S]*NonFiniteLossError"):
        prove(from_data(configure_data(configure)), tmp_path / "other")


def configure_data(configure):
    """Return a configuration of data that are no numbers."""
    from mlc_trainer import as_data

    return json.loads(json.dumps(as_data(configure(data={"factory": "tiny:Hopeless", "batch_size": 4}))))


def test_command(mlc, config_file, tmp_path):
    """It says what was shown, and trains nothing beside it."""
    told = mlc("train", config_file(), "--prove", tmp_path / "proof")

    assert (0, "") == (told.code, told.err)
    assert "killed with SIGKILL after step 4, resumed from step" in told.out
    assert not (tmp_path / "runs").exists()
