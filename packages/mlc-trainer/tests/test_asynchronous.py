"""Saves in the background: the same bits, told when they are durable, waited for where it matters."""

import errno
import os
import signal
import threading

import pytest

from mlc_core import DiskFullError, open_checkpoint
from mlc_trainer import ExperimentManager, PreemptedError, read_journal

LATER = {"save_strategy": "interval", "strategy_options": {"every": 2, "unit": "steps"}, "asynchronous": True}
SAVED = [2, 3, 4, 6, 8, 9]
"""Every second step, and the end of each of three epochs of three."""


@pytest.fixture
def run_dir(tmp_path):
    """Where the run lies."""
    return tmp_path / "run"


@pytest.fixture
def in_background(monkeypatch):
    """Let something be done whenever another thread than this one makes something durable."""

    def let(do):
        fsync, here = os.fsync, threading.get_ident()

        def first(descriptor):
            if threading.get_ident() != here:
                do()
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", first)

    return let


def test_bits_are_those_of_saves_that_are_waited_for(configure, run_dir, whole, bits):
    """Every file, but for the one that says how the run was configured."""
    ExperimentManager(configure(checkpoints=LATER), run_dir).run()
    files, *rest = bits(run_dir)
    expected, *others = whole(checkpoints={**LATER, "asynchronous": False})

    assert {name for name in expected if expected[name] != files[name]} == {"state.json"}
    assert others == rest


def test_training_goes_on_while_a_checkpoint_is_written(configure, run_dir, in_background, watcher):
    """The third step is taken before the state after the second is on disk."""
    go, seen = threading.Event(), []
    in_background(lambda: go.wait(60))

    def look(position):
        if position.step == 3:
            seen.extend(run_dir.glob("checkpoints/model/epoch_*"))
            go.set()

    ExperimentManager(configure(checkpoints=LATER), run_dir, observers=[watcher(step_ended=look)]).run()

    assert go.is_set()
    assert [] == seen


def test_checkpoint_is_told_when_it_is_durable(configure, run_dir, watcher):
    """And not before: in the journal each is once, by the step that it is of."""
    told = []
    see = watcher(checkpoint_saved=lambda position, at: told.append((position.step, open_checkpoint(at).saved.step)))
    ExperimentManager(configure(checkpoints=LATER), run_dir, observers=[see]).run()
    lines = [line for line in read_journal(run_dir / "metrics.jsonl") if line["event"] == "checkpoint"]

    assert [(step, step) for step in SAVED] == told
    assert SAVED == [line["step"] for line in lines]
    assert 9 == open_checkpoint(run_dir / "checkpoints/model/final").saved.step


def test_error_in_the_background_ends_the_run_at_the_next_step(configure, run_dir, in_background):
    """As the same error that a save raises which is waited for."""

    def fail():
        raise OSError(errno.ENOSPC, "No space left on device")

    in_background(fail)
    experiment = ExperimentManager(configure(checkpoints=LATER), run_dir)
    with pytest.raises(DiskFullError):
        experiment.run()

    assert 3 == experiment.engine.position.step
    (ended,) = [line for line in read_journal(run_dir / "metrics.jsonl") if line["event"] == "ended"]
    assert ended["error"].startswith("DiskFullError")


@pytest.mark.parametrize("step", [2, 3, 5])
def test_signal_waits_for_what_is_under_way(step, configure, run_dir, watcher, whole, bits):
    """Where training stands is durable before the process ends; after 2 and 3 a save has just begun."""
    strike = watcher(step_ended=lambda position: position.step == step and os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(PreemptedError, match=f"stopped at step {step}, which is saved") as caught:
        ExperimentManager(configure(checkpoints=LATER), run_dir, observers=[strike]).run()
    latest = open_checkpoint(run_dir / "checkpoints/model/latest").saved

    assert (step, 143) == (latest.step, caught.value.exit_status)
    ExperimentManager.from_run(run_dir).resume_training()
    assert whole(checkpoints=LATER) == bits(run_dir)


def test_rollback_goes_to_what_was_being_saved(configure, run_dir, whole, bits):
    """It is waited for first."""
    tables = {
        "data": {"factory": "tiny:Poisoned", "batch_size": 1, "shuffle": False},
        "training": {"on_nonfinite": "rollback", "num_epochs": 1},
    }
    ExperimentManager(configure(checkpoints=LATER, **tables), run_dir).run()

    expected = whole(checkpoints={**LATER, "asynchronous": False}, **tables)
    assert expected[0]["model.safetensors"] == bits(run_dir)[0]["model.safetensors"]
    (back,) = [line for line in read_journal(run_dir / "metrics.jsonl") if line["event"] == "rolled back"]
    assert 4 == back["step"]
