"""Ends before the end: signals, errors, batches that are not finite, and metrics that get no better."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from mlc_core import open_checkpoint
from mlc_trainer import (
    ConfigError,
    ExperimentManager,
    ModelManager,
    NonFiniteLossError,
    PreemptedError,
    RunError,
    read_journal,
)

POISONED = {"factory": "tiny:Poisoned", "batch_size": 1, "shuffle": False}
FREQUENT = {"save_strategy": "interval", "strategy_options": {"every": 2, "unit": "steps"}}


@pytest.fixture
def run_dir(tmp_path):
    """Where the run lies."""
    return tmp_path / "run"


def send(number, step, moment="step_ended"):
    """Return an observer's moments: send the signal to this process at that step."""
    sent = []

    def strike(position, *_):
        if position.step == step and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    return {moment: strike}


# ---------------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("step", [1, 3, 5])
def test_signal_saves_at_the_next_step_and_the_rest_is_the_same(number, step, configure, run_dir, watcher, whole, bits):
    """Where training stands is on disk before the process ends; steps 3 is the last of an epoch."""
    experiment = ExperimentManager(configure(), run_dir, observers=[watcher(**send(number, step))])
    before = signal.getsignal(number)
    with pytest.raises(PreemptedError, match=f"{number.name} came and training stopped at step {step}") as caught:
        experiment.run()
    latest = open_checkpoint(run_dir / "checkpoints/model/latest").saved

    assert (step, 128 + number) == (latest.step, caught.value.exit_status)
    assert before == signal.getsignal(number)
    ExperimentManager.from_run(run_dir).resume_training()
    assert whole() == bits(run_dir)


def test_second_interrupt_does_not_wait(configure, run_dir, watcher, monkeypatch, capfd):
    """The first says what it waits for; one that a launcher passes on in the same moment is no second one."""
    seconds = iter([10.0, 10.1, 12.0])
    monkeypatch.setattr("mlc_trainer.signals.monotonic", lambda: next(seconds))
    heard = []

    def press(position):
        if position.step == 4:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
                heard.append(capfd.readouterr().err)

    with pytest.raises(KeyboardInterrupt):
        ExperimentManager(configure(), run_dir, observers=[watcher(step_ended=press)]).run()

    assert [True, False] == ["once more ends it at once" in one for one in heard]
    assert 3 == open_checkpoint(run_dir / "checkpoints/model/latest").saved.step


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_a_run_is_set_up(number, configure, run_dir, monkeypatch, whole, bits):
    """Nothing is waited for, nothing is written, and nobody is told to resume what never began."""
    import tiny

    def strike(_):
        os.kill(os.getpid(), number)
        pytest.fail("it went on")

    with monkeypatch.context() as patch:
        patch.setattr(tiny.Blobs, "validation", strike)
        with pytest.raises(
            PreemptedError, match=f"{number.name} came before training began; there is nothing"
        ) as caught:
            ExperimentManager(configure(), run_dir).run()
    assert (128 + number, False) == (caught.value.exit_status, run_dir.exists())
    ExperimentManager(configure(), run_dir).run(1)
    with monkeypatch.context() as patch:
        patch.setattr(tiny.Blobs, "validation", strike)
        with pytest.raises(PreemptedError, match="came before training went on; resume it again"):
            ExperimentManager(configure(), run_dir).resume_training()

    ExperimentManager.from_run(run_dir).resume_training()
    assert whole(training={"num_epochs": 3})[0]["model.safetensors"] == bits(run_dir)[0]["model.safetensors"]


def test_signal_before_the_first_step_leaves_nothing_to_resume(configure, run_dir, watcher, whole, bits):
    """It is started again, in the same directory."""
    strike = watcher(run_started=lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(PreemptedError, match="stopped before its first step; there is nothing to resume yet"):
        ExperimentManager(configure(), run_dir, observers=[strike]).run()

    ExperimentManager(configure(), run_dir).run()
    assert whole() == bits(run_dir)


def test_signal_while_it_is_measured(configure, run_dir, monkeypatch, whole, bits):
    """A long validation is left; it is made again after the restart, and no step is."""
    import tiny

    plain_item = tiny.Images.__getitem__

    def strike(self, index):
        if self._first == 1000 and not struck:
            struck.append(os.kill(os.getpid(), signal.SIGTERM))
        return plain_item(self, index)

    struck = []
    with monkeypatch.context() as patch:
        patch.setattr(tiny.Images, "__getitem__", strike)
        with pytest.raises(PreemptedError, match="step 3"):
            ExperimentManager(configure(data={"factory": "tiny:Blobs", "batch_size": 4}), run_dir).run()
    latest = open_checkpoint(run_dir / "checkpoints/model/latest").saved

    assert (3, {}, False) == (latest.step, dict(latest.metrics), latest.epoch_ended)
    ExperimentManager.from_run(run_dir).resume_training()
    assert whole() == bits(run_dir)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_that_is_told_to_end_says_so_by_its_status(number, start, config_file, tmp_path):
    """No script takes it for finished, and `mlc resume` goes on."""
    table = {"training": {"num_epochs": 400}}
    with start("train", config_file(**table), "--run-dir", tmp_path / "run") as child:
        while not (tmp_path / "run/checkpoints/model/latest").exists():
            assert child.poll() is None
        child.send_signal(number)
        _, told = child.communicate(timeout=60)

    assert 128 + number == child.returncode
    assert f"Error: {number.name} came and training stopped at step" in told


# ---------------------------------------------------------------------- errors


def test_error_between_two_steps_is_saved_if_asked(configure, run_dir, watcher, whole, bits):
    """What an observer breaks costs no step."""

    def fail(position):
        if position.step == 5:
            msg = "the tracker is gone"
            raise RuntimeError(msg)

    config = configure(training={"save_on_error": True})
    with pytest.raises(RuntimeError, match="the tracker is gone"):
        ExperimentManager(config, run_dir, observers=[watcher(step_ended=fail)]).run()

    assert 5 == open_checkpoint(run_dir / "checkpoints/model/latest").saved.step
    ExperimentManager.from_run(run_dir).resume_training()
    assert whole()[0]["model.safetensors"] == bits(run_dir)[0]["model.safetensors"]


def test_error_in_the_middle_of_a_step_is_not_saved(configure, run_dir, monkeypatch):
    """Half a step is none: the last end of an epoch is where it goes on."""
    experiment = ExperimentManager(configure(training={"save_on_error": True}), run_dir).setup()
    steps = []

    def fail(*_, **__):
        steps.append(1)
        if len(steps) == 5:
            msg = "out of memory"
            raise RuntimeError(msg)

    experiment.engine.optimizer.register_step_post_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        experiment.run()

    assert 3 == open_checkpoint(run_dir / "checkpoints/model/latest").saved.step


# ---------------------------------------------------------------------- what is not finite


def test_run_stops_at_the_batch_that_is_not_finite(configure, run_dir):
    """Not at the end of its epoch: on a CPU at once."""
    experiment = ExperimentManager(configure(data=POISONED), run_dir)
    with pytest.raises(NonFiniteLossError, match="the training loss of epoch 1 is nan by step 6;"):
        experiment.run()

    assert 5 == experiment.engine.position.step


def test_run_on_an_accelerator_stops_at_the_next_logged_step(configure, run_dir):
    """Where to look means to wait for the device, which is done there anyway."""
    experiment = ExperimentManager(configure(data=POISONED, training={"log_every": 4}), run_dir).setup()
    experiment.engine._means.at_once = False  # as it is elsewhere; no other device is here
    with pytest.raises(NonFiniteLossError, match="the training loss of epoch 1 is nan by step 8;"):
        experiment.run()


def test_batch_that_is_not_finite_can_be_skipped(configure, run_dir):
    """No weight, no statistic of batch normalisation and no mean of the epoch has seen it."""
    config = configure(data=POISONED, training={"on_nonfinite": "skip", "num_epochs": 2})
    experiment = ExperimentManager(config, run_dir)
    metrics = experiment.run()
    state = experiment.engine.state_dict()

    assert all(one.isfinite().all() for one in experiment.engine.model.state_dict().values())
    assert 0 < metrics["train_loss"] < 2
    assert (2, 24) == (state["passed_over"], state["position"]["step"])


def test_run_can_roll_back_and_come_by_the_batch(configure, run_dir, caplog):
    """It goes on from the last checkpoint, and says so."""
    config = configure(data=POISONED, training={"on_nonfinite": "rollback", "num_epochs": 2}, checkpoints=FREQUENT)
    experiment = ExperimentManager(config, run_dir)
    experiment.run()

    assert frozenset({(0, 5), (1, 5)}) == experiment.engine.avoided
    assert all(one.isfinite().all() for one in experiment.engine.model.state_dict().values())
    assert 2 == sum("going back to the last checkpoint" in one.message for one in caplog.records)
    steps = [line["step"] for line in read_journal(run_dir / "metrics.jsonl") if line["event"] == "step"]
    assert sorted(set(steps)) == steps


def test_nothing_to_roll_back_to(configure, run_dir):
    """The error says what happened, and why it could not be mended."""
    config = configure(data={**POISONED, "options": {"length": 6}}, training={"on_nonfinite": "rollback"})
    with pytest.raises(NonFiniteLossError, match="not finite at step 6, and there is no checkpoint yet"):
        ExperimentManager(config, run_dir).run()


def test_data_that_are_never_finite_end_the_run(configure, run_dir):
    """Ten in a row are not the fault of a batch."""
    options = {"factory": "tiny:Hopeless", "batch_size": 1}
    config = configure(data=options, training={"on_nonfinite": "skip"})
    with pytest.raises(NonFiniteLossError, match="not finite at step 10, as in the 9 batches before"):
        ExperimentManager(config, run_dir).run()


# ---------------------------------------------------------------------- enough


def test_training_ends_when_the_metric_gets_no_better(configure, run_dir, caplog):
    """After so many epochs in a row, and a restart changes nothing about it."""
    caplog.set_level("INFO", "mlc_trainer")
    table = {"metric": "val_dice", "mode": "max", "patience": 2, "min_delta": 2.0}
    config = configure(training={"num_epochs": 9}, early_stopping=table)
    experiment = ExperimentManager(config, run_dir)
    experiment.run()

    assert 3 == experiment.engine.position.epoch
    assert "val_dice has not got better than" in caplog.text
    again = ExperimentManager.from_run(run_dir)
    again.resume_training()
    assert 3 == again.engine.position.epoch
    assert 3 == open_checkpoint(run_dir / "checkpoints/model/final").saved.epoch


def test_metric_of_early_stopping_that_is_not_measured(configure, run_dir):
    """Is said, with what is close."""
    with pytest.raises(ConfigError, match=r"early_stopping.metric = 'val_dise' was not measured.*val_dice"):
        ExperimentManager(configure(early_stopping={"metric": "val_dise"}), run_dir).run()


# ---------------------------------------------------------------------- averages


def test_average_is_what_is_measured_and_loaded(configure, run_dir):
    """By the formula; weights and average are both in the checkpoint."""
    experiment = ExperimentManager(configure(training={"ema_decay": 0.9, "num_epochs": 1}), run_dir).setup()
    history = []
    experiment.engine.optimizer.register_step_post_hook(
        lambda *_: history.append([one.detach().clone() for one in experiment.engine.model.parameters()])
    )
    experiment.run()
    expected = history[0]
    for weights in history[1:]:
        expected = [0.9 * old + 0.1 * new for old, new in zip(expected, weights, strict=True)]
    loaded = ModelManager.from_experiment_dir(run_dir, "cpu")

    assert all(torch.allclose(*pair) for pair in zip(expected, loaded.model.parameters(), strict=True))
    numbers = {name: one for name, one in loaded.saved.metrics.items() if name.startswith("val_")}
    assert numbers == loaded.evaluate()
    assert numbers == ModelManager.from_experiment(experiment).evaluate()


# ---------------------------------------------------------------------- what a review found


def test_parts_that_are_frozen_stay_so(configure, run_dir, plain, tmp_path, killer, killed, bits):
    """Validation puts every module back as it was, so that a restart changes nothing."""
    tables = {"model": {"factory": "tiny:Frozen"}, "checkpoints": FREQUENT}
    with pytest.raises(killed):
        ExperimentManager(configure(**tables), run_dir, observers=[killer(5)]).run()
    resumed = ExperimentManager.from_run(run_dir)
    resumed.resume_training()
    ExperimentManager(configure(**tables), tmp_path / "whole").run()

    assert bits(tmp_path / "whole")[0]["model.safetensors"] == bits(run_dir)[0]["model.safetensors"]
    assert 0 == int(resumed.engine.model.layers[1].num_batches_tracked)


def test_metric_that_is_never_a_number_ends_training_early(configure, run_dir, caplog):
    """And says so."""
    caplog.set_level("INFO", "mlc_trainer")
    table = {"factory": "tiny:NoNumber"}
    config = configure(
        metrics=table, early_stopping={"metric": "val_nothing", "patience": 2}, training={"num_epochs": 5}
    )
    experiment = ExperimentManager(config, run_dir)
    experiment.run()

    assert 2 == experiment.engine.position.epoch
    assert "val_nothing has been no number for 2 epochs" in caplog.text
    with pytest.raises(RunError, match="training ended early"):
        ExperimentManager.from_run(run_dir).resume_training(2)


def test_gradient_that_no_scale_makes_finite_ends_the_run(configure, run_dir):
    """Instead of training nothing, for ever."""
    config = configure(
        model={"factory": "tiny:Steep"}, training={"precision": "fp16", "num_epochs": 30}, data={"batch_size": 4}
    )
    with pytest.raises(NonFiniteLossError, match="not finite at 40 steps in a row"):
        ExperimentManager(config, run_dir).run()


def test_journal_tells_no_step_twice_after_a_rollback(configure, run_dir):
    """What comes again is forgotten first."""
    config = configure(
        data=POISONED, training={"on_nonfinite": "rollback", "num_epochs": 2, "log_every": 1}, checkpoints=FREQUENT
    )
    ExperimentManager(config, run_dir).run()
    lines = read_journal(run_dir / "metrics.jsonl")
    steps = [line["step"] for line in lines if line["event"] == "step"]

    assert sorted(set(steps)) == steps
    assert 2 == sum(line["event"] == "rolled back" for line in lines)


def test_model_with_learnt_loss_weights_can_be_measured(configure, run_dir):
    """From its checkpoint alone."""
    scheduler = {"type": "adaptive", "params": {"method": "uncertainty"}}
    config = configure(loss={"preset": "default_segmentation", "config": {"scheduler": scheduler}})
    ExperimentManager(config, run_dir).run()
    loaded = ModelManager.from_experiment_dir(run_dir, "cpu")

    assert loaded.evaluate() == {name: one for name, one in loaded.saved.metrics.items() if name.startswith("val_")}


def test_observer_that_leaves_the_model_in_evaluation_mode_changes_no_bit(configure, run_dir, watcher, whole, bits):
    """In our loop the modes are those of the beginning, at every step: frozen parts are frozen, the rest trains."""
    tables = {"model": {"factory": "tiny:Frozen"}}
    calm = watcher(step_ended=lambda _: experiment.engine.model.eval())
    experiment = ExperimentManager(configure(**tables), run_dir, observers=[calm])
    experiment.run()

    assert whole(**tables) == bits(run_dir)
    assert 0 == int(experiment.engine.model.layers[1].num_batches_tracked)


SCRIPT = """
import json, sys
from mlc_trainer import ExperimentManager, from_data
experiment = ExperimentManager(from_data(json.loads(sys.argv[1])), sys.argv[2])
experiment.setup()
next(experiment.training_batches.epoch(0))
if sys.argv[3] == "trained":
    experiment.run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("until", ["begun", "trained"])
def test_a_program_that_holds_its_experiment_ends(until, tmp_path, plain):
    """The processes that load ignore SIGTERM, by which Python ends them at exit; they are ended before."""
    words = [json.dumps(plain(data={"workers": 2}, training={"num_epochs": 1})), str(tmp_path / "run"), until]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], env=environment, check=False, timeout=60)

    assert 0 == done.returncode
