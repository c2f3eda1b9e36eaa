"""Experiments: trained, resumed, extended, evaluated, and what stops them."""

import json
import logging
import resource
import shutil

import pytest
import torch

from mlc_core import (
    CheckpointManager,
    CheckpointNotFoundError,
    ConfigurationError,
    CorruptCheckpointError,
    DiskFullError,
    MismatchError,
    open_checkpoint,
)
from mlc_hooks import Plugins, hookimpl
from mlc_hooks.choice import Choice
from mlc_trainer import (
    ConfigError,
    ExperimentManager,
    FactoryError,
    HorizonError,
    NonFiniteLossError,
    ResumeWarning,
    RunBusyError,
    RunError,
    read_journal,
)
from mlc_trainer.config_files import as_data
from mlc_trainer.directory import RunDirectory
from mlc_trainer.observers import metrics_of
from mlc_trainer.summary import as_floats

SCHEDULE = {"name": "OneCycleLR", "options": {"max_lr": 0.05}}


@pytest.fixture
def run_dir(tmp_path):
    """Where the run is going to be."""
    return tmp_path / "run"


def names(experiment):
    """Return the names of the checkpoints, in order of commit."""
    return [one.name for one in experiment.checkpoints.list_checkpoints()]


# ---------------------------------------------------------------------- the documented calls


def test_run_trains_to_the_end_and_says_the_metrics_of_the_last_epoch(configure, run_dir):
    """As the journal and the last manifest have them."""
    experiment = ExperimentManager(configure(), run_dir)
    metrics = experiment.run()
    epochs = [line for line in read_journal(run_dir / "metrics.jsonl") if line["event"] == "epoch"]

    assert 3 == experiment.engine.position.epoch
    assert metrics == metrics_of(epochs[-1])
    assert metrics == dict(experiment.checkpoints.list_checkpoints()[-1].metrics)
    expected = {"val_dice", "val_dice_blob", "val_loss", "val_dice_loss", "val_bce_loss"}
    assert {*expected, "train_loss", "train_dice_loss", "train_bce_loss", "lr"} == set(metrics)


def test_setup_writes_nothing(configure, run_dir):
    """Whoever only looks at the model leaves no trace."""
    experiment = ExperimentManager(configure(), run_dir)

    assert experiment is experiment.setup()
    assert not run_dir.exists()


def test_the_latest_state_is_on_disk_after_every_epoch(configure, run_dir, watcher):
    """Whatever the save strategy says."""
    found = []
    look = watcher(checkpoint_saved=lambda *_: found.append(experiment.checkpoints.list_checkpoints()[-1]))
    best = {"save_strategy": "best", "monitor_metric": "val_dice", "mode": "max"}
    experiment = ExperimentManager(configure(checkpoints=best), run_dir, observers=[look])
    experiment.run()

    assert [1, 2, 3] == [one.epoch for one in found]
    assert all(one.epoch_ended for one in found)


def test_best_latest_final_and_each_epoch_can_be_addressed(trained):
    """By name, in one call each."""
    for name in ("best", "latest", "final", "epoch_2"):
        experiment = ExperimentManager.from_run(trained)
        experiment.restore(name)

        saved = open_checkpoint(trained / "checkpoints/model" / name).saved
        assert saved.epoch == experiment.engine.position.epoch
        assert saved.step == experiment.engine.position.step
    assert 3 == open_checkpoint(trained / "checkpoints/model/final").saved.epoch


def test_load_best_and_load_latest_are_ready_experiments(trained):
    """From the directory alone, and what they measure is what was measured."""
    best = ExperimentManager.load_best_model(trained)
    latest = ExperimentManager.load_latest_model(trained)
    saved = {name: open_checkpoint(trained / "checkpoints/model" / name).saved for name in ("best", "latest")}

    for experiment, one in ((best, saved["best"]), (latest, saved["latest"])):
        found = experiment.evaluate()
        assert found == {name: value for name, value in one.metrics.items() if name.startswith("val_")}


def test_evaluate_takes_other_data(trained):
    """Pairs of input and target, from whatever can be walked through."""
    experiment = ExperimentManager.load_latest_model(trained)
    images = torch.zeros(4, 1, 8, 8)

    assert {"val_loss", "val_dice"} <= set(experiment.evaluate([(images, images), (images[:1], images[:1])]))
    with pytest.raises(ConfigError, match="there is no batch to measure on"):
        experiment.evaluate([])
    with pytest.raises(ConfigError, match="a batch is 3 parts; a dataset must give pairs"):
        experiment.evaluate([(images, images, images)])
    with pytest.raises(ConfigError, match="a batch is a Tensor"):
        experiment.evaluate([images])


def test_resume_training_for_five_more_epochs(trained_copy):
    """Five more than there are, and the new end is the final one."""
    experiment = ExperimentManager.from_run(trained_copy)
    experiment.resume_training(num_epochs=5)

    assert 8 == experiment.engine.position.epoch
    assert 8 == open_checkpoint(trained_copy / "checkpoints/model/final").saved.epoch
    assert 8 == json.loads((trained_copy / "config.json").read_text())["training"]["num_epochs"]


def test_extension_that_is_killed_goes_on_to_its_own_end(trained_copy, killer, killed):
    """The new total is the run's total now: a resume without a number does not stop at the old one."""
    with pytest.raises(killed):
        ExperimentManager.from_run(trained_copy, observers=[killer(14)]).resume_training(5)
    experiment = ExperimentManager.from_run(trained_copy)
    experiment.resume_training()

    assert 8 == experiment.engine.position.epoch


def test_extension_equals_a_run_that_was_longer_from_the_start(configure, run_dir, tmp_path, bits):
    """Without a schedule there is no difference between three and two more, and five."""
    ExperimentManager(configure(), run_dir).run()
    ExperimentManager.from_run(run_dir).resume_training(2)
    ExperimentManager(configure(training={"num_epochs": 5}), tmp_path / "five").run()
    (files, epochs, *_), (others, other_epochs, *_) = bits(run_dir), bits(tmp_path / "five")

    assert files == others
    assert epochs == other_epochs


def test_resume_goes_to_the_configured_total(configure, run_dir):
    """Where fewer epochs were asked for at first, too."""
    ExperimentManager(configure(), run_dir).run(num_epochs=1)
    assert 1 == open_checkpoint(run_dir / "checkpoints/model/final").saved.epoch
    experiment = ExperimentManager.from_run(run_dir)
    experiment.resume_training()

    assert 3 == experiment.engine.position.epoch
    assert 3 == open_checkpoint(run_dir / "checkpoints/model/final").saved.epoch


def test_resuming_a_run_that_is_complete_changes_nothing(trained_copy, bits):
    """It says the metrics of its end again."""
    before = bits(trained_copy)
    metrics = ExperimentManager.from_run(trained_copy).resume_training()

    assert before == bits(trained_copy)
    assert metrics == before[2]


def test_final_is_where_training_ended_and_not_what_was_saved_last(trained_copy):
    """Who goes back to the first epoch and wants no more has it as the final one."""
    metrics = ExperimentManager.from_run(trained_copy).run(1, resume_from_checkpoint="epoch_1")
    saved = open_checkpoint(trained_copy / "checkpoints/model/final").saved

    assert 1 == saved.epoch
    assert metrics == saved.metrics


def test_going_back_replaces_what_comes_after(trained_copy, bits):
    """An epoch that is trained again is kept once, and the journal has it once."""
    before = bits(trained_copy)
    ExperimentManager.from_run(trained_copy).run(resume_from_checkpoint="epoch_1")
    experiment = ExperimentManager.from_run(trained_copy).setup()
    best = open_checkpoint(trained_copy / "checkpoints/model/best").saved.name

    assert before[:2] == bits(trained_copy)[:2]
    assert {"epoch_1", "epoch_2_r2", "epoch_3_r2"} == {*names(experiment)} - ({best} - {"epoch_1"})


def test_resume_without_a_checkpoint_names_the_directory(configure, run_dir):
    """And whoever has none yet can train."""
    with pytest.raises(CheckpointNotFoundError, match=str(run_dir)):
        ExperimentManager(configure(), run_dir).resume_training()
    with pytest.raises(CheckpointNotFoundError, match=f"no checkpoint in {run_dir}.* is called 'epoch_9'"):
        ExperimentManager(configure(), run_dir).run(resume_from_checkpoint="epoch_9")


@pytest.mark.parametrize("call", [ExperimentManager.load_best_model, ExperimentManager.load_latest_model])
def test_what_is_no_run_is_said(call, tmp_path):
    """With what is missing."""
    with pytest.raises(RunError, match=f"{tmp_path} is not the directory of a run: it has no config.json"):
        call(tmp_path)


def test_lost_configuration_is_found_in_a_checkpoint(trained_copy):
    """The error says where."""
    from mlc_trainer import ModelManager

    (trained_copy / "config.json").unlink()
    with pytest.raises(RunError, match=r"each of its checkpoints holds one: ModelManager.from_checkpoint"):
        ExperimentManager.from_run(trained_copy)
    config = ModelManager.from_checkpoint(trained_copy / "checkpoints/model/latest").config
    ExperimentManager(config, trained_copy).resume_training()

    assert (trained_copy / "config.json").is_file()


def test_a_run_can_begin_from_a_checkpoint_of_another(trained, configure, run_dir):
    """The new directory is a whole run of its own."""
    source = trained / "checkpoints/model/epoch_2"
    ExperimentManager(configure(), run_dir).run(resume_from_checkpoint=source)
    experiment = ExperimentManager.from_run(run_dir)

    assert 3 == open_checkpoint(run_dir / "checkpoints/model/final").saved.epoch
    assert experiment.restore("latest").checkpoint == "epoch_3"
    assert "epoch_2" == read_journal(run_dir / "metrics.jsonl")[0]["from"]


def test_nothing_left_to_train_after_a_foreign_checkpoint(trained, configure, run_dir):
    """There is no final checkpoint here, and its metrics are known."""
    metrics = ExperimentManager(configure(), run_dir).run(resume_from_checkpoint=trained / "checkpoints/model/final")

    assert metrics == dict(open_checkpoint(trained / "checkpoints/model/final").saved.metrics)
    assert not (run_dir / "checkpoints").exists()


# ---------------------------------------------------------------------- keeping


def test_retention_keeps_the_best_and_the_latest_ends_of_epochs(configure, run_dir):
    """With saves in the middle of epochs, which go when something newer is there."""
    table = {
        "save_strategy": "interval",
        "strategy_options": {"every": 1, "unit": "steps"},
        "max_checkpoints": 3,
        "monitor_metric": "val_loss",
    }
    config = configure(checkpoints=table, training={"num_epochs": 6})
    experiment = ExperimentManager(config, run_dir)
    experiment.run()
    saved = experiment.checkpoints.list_checkpoints()
    epochs = [line for line in read_journal(run_dir / "metrics.jsonl") if line["event"] == "epoch"]
    best = min(epochs, key=lambda line: line["val_loss"])["epoch"]

    assert sorted({5, 6, best}) == [one.epoch for one in saved]
    assert all(one.epoch_ended for one in saved)
    assert best == open_checkpoint(run_dir / "checkpoints/model/best").saved.epoch


def test_metric_that_is_not_measured_is_said_after_the_first_epoch(configure, run_dir):
    """A typo costs one epoch and not the run: the epoch is saved, and the run goes on when the name is right."""
    table = {"monitor_metric": "val_dcie", "mode": "max"}
    with pytest.raises(ConfigError, match=r"'val_dcie' was not measured. Did you mean 'val_dice'\? Measured: lr, "):
        ExperimentManager(configure(checkpoints=table), run_dir).run()
    experiment = ExperimentManager(configure(checkpoints={**table, "monitor_metric": "val_dice"}), run_dir)
    experiment.resume_training()

    assert ["epoch_1", "epoch_2", "epoch_3"] == names(experiment)


# ---------------------------------------------------------------------- refusals


def test_used_directory_is_refused(trained, configure):
    """Nothing is trained over."""
    with pytest.raises(RunError, match=f"{trained} holds checkpoints already; `mlc resume {trained}` goes on"):
        ExperimentManager(configure(), trained).run()


def test_experiment_that_was_trained_does_not_begin_anew(configure, run_dir, killer, killed):
    """Its weights are not those of a beginning."""
    experiment = ExperimentManager(configure(), run_dir, observers=[killer(2)])
    with pytest.raises(killed):
        experiment.run()
    with pytest.raises(RunError, match="this experiment is at step 2 already; make a new ExperimentManager"):
        experiment.run()


def test_two_cannot_train_in_one_directory(configure, run_dir, trained_copy):
    """Not in one process either; reading is free."""
    with RunDirectory(trained_copy).busy():
        with pytest.raises(RunBusyError, match="another process is training in"):
            ExperimentManager.from_run(trained_copy).resume_training(1)
        ExperimentManager.load_best_model(trained_copy)
    ExperimentManager.from_run(trained_copy).resume_training(1)


def test_run_directory_that_is_a_file(configure, run_dir):
    """An error of ours."""
    run_dir.write_text("mine")
    with pytest.raises(OSError, match=f"{run_dir}: File exists"):
        ExperimentManager(configure(), run_dir).run()


@pytest.mark.parametrize(
    "schedule", [SCHEDULE, {"name": "CosineAnnealingLR", "every": "epoch"}, {"name": "PolynomialLR"}]
)
def test_schedule_that_ends_before_training_is_refused(schedule, configure, run_dir):
    """It was laid out for a length; behind it the rate climbs, is 0 for ever, or there is none."""
    config = configure(scheduler=schedule)
    with pytest.raises(HorizonError, match=r"was laid out for .* and 4 epochs take .*training.num_epochs = 4"):
        ExperimentManager(config, run_dir).run(4)
    assert not (run_dir / "config.json").exists()
    ExperimentManager(config, run_dir).run(2)
    ExperimentManager.from_run(run_dir).resume_training()
    with pytest.raises(HorizonError):
        ExperimentManager.from_run(run_dir).resume_training(1)


def test_horizon_is_the_one_of_the_checkpoint(configure, run_dir):
    """Raising num_epochs in config.json does not lay the schedule out anew, and does not go unnoticed."""
    ExperimentManager(configure(scheduler=SCHEDULE), run_dir).run()
    config = json.loads((run_dir / "config.json").read_text())
    config["training"]["num_epochs"] = 6
    (run_dir / "config.json").write_text(json.dumps(config))
    with pytest.raises(HorizonError, match="laid out for 9 steps and 6 epochs take 18"):
        ExperimentManager.from_run(run_dir).resume_training()


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "StepLR", "options": {"step_size": 4}},
        {"name": "CosineAnnealingLR", "options": {"T_max": 4}},
        {"name": "LinearLR", "options": {"total_iters": 3}},
        {"name": "OneCycleLR", "options": {"max_lr": 0.1, "total_steps": 100}},
        {"name": "OneCycleLR", "options": {"max_lr": 0.1, "epochs": 10, "steps_per_epoch": 3}},
    ],
)
def test_schedule_without_an_end_or_with_a_chosen_one_may_be_extended(schedule, configure, run_dir):
    """A warm-up of three steps is no length of a run."""
    ExperimentManager(configure(scheduler=schedule), run_dir).run(4)

    experiment = ExperimentManager.from_run(run_dir)
    experiment.resume_training(1)

    assert 5 == experiment.engine.position.epoch


def test_schedule_that_would_raise_at_its_end_is_refused_even_if_chosen(configure, run_dir):
    """Before the first step."""
    table = {"name": "OneCycleLR", "options": {"max_lr": 0.1, "total_steps": 5}}
    with pytest.raises(HorizonError, match="laid out for 5 steps and 3 epochs take 9"):
        ExperimentManager(configure(scheduler=table), run_dir).run()


# ---------------------------------------------------------------------- what goes wrong on the way


def test_loss_that_is_not_finite_keeps_nothing_after_the_last_good_step(configure, run_dir):
    """No checkpoint holds a weight that is NaN, in the middle of an epoch neither."""
    frequent = {"save_strategy": "interval", "strategy_options": {"every": 1, "unit": "steps"}}
    config = configure(data={"factory": "tiny:Poisoned", "batch_size": 1, "shuffle": False}, checkpoints={**frequent})
    with pytest.raises(
        NonFiniteLossError, match="the training loss of epoch 1 is nan by step 6; the last checkpoint is from before"
    ):
        ExperimentManager(config, run_dir).run()
    experiment = ExperimentManager.load_latest_model(run_dir)

    assert 5 == experiment.engine.position.step
    assert all(one.isfinite().all() for one in experiment.engine.model.state_dict().values())
    assert "NonFiniteLossError" in read_journal(run_dir / "metrics.jsonl")[-1]["error"]


def test_weights_that_are_not_finite_are_not_saved(configure, run_dir, watcher):
    """The loss of a step is from before its update: it may be finite when the weights are not any more."""

    def spoil(position):
        with torch.no_grad():
            next(experiment.engine.model.parameters()).fill_(float("inf") if position.step == 3 else 0.1)

    experiment = ExperimentManager(configure(), run_dir, observers=[watcher(step_ended=spoil)])
    with pytest.raises(NonFiniteLossError, match="the loss is finite and weights are not, after step 3"):
        experiment.run()
    assert [] == names(experiment)


def test_full_disk_while_saving(configure, run_dir, tmp_path, watcher, bits):
    """The kernel refuses more bytes (RLIMIT_FSIZE) from the second epoch on: a typed error, and the first is intact."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up(position, _):
        if position.step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2500, hard))

    config = configure(training={"log_every": 100})
    try:
        with pytest.raises(DiskFullError, match=r"no room left for .*(model\.safetensors|state\.json)"):
            ExperimentManager(config, run_dir, observers=[watcher(epoch_ended=fill_up)]).run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "DiskFullError" in read_journal(run_dir / "metrics.jsonl")[-1]["error"]
    experiment = ExperimentManager.from_run(run_dir)
    assert ["epoch_1"] == names(experiment)
    open_checkpoint(run_dir / "checkpoints/model/epoch_1").verify()
    experiment.resume_training()
    ExperimentManager(config, tmp_path / "twin").run()

    assert bits(tmp_path / "twin") == bits(run_dir)


def test_full_disk_while_the_journal_is_written(configure, run_dir, watcher, caplog):
    """A typed error as well, and the first epoch is intact."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up(*_):
        resource.setrlimit(resource.RLIMIT_FSIZE, ((run_dir / "metrics.jsonl").stat().st_size, hard))

    config = configure(training={"log_every": 1})
    try:
        with pytest.raises(DiskFullError, match=r"no room left for .*metrics\.jsonl"):
            ExperimentManager(config, run_dir, observers=[watcher(checkpoint_saved=fill_up)]).run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "observer Journal failed when told that the run ended" in caplog.text
    experiment = ExperimentManager.from_run(run_dir)
    experiment.resume_training()

    assert ["epoch_1", "epoch_2", "epoch_3"] == names(experiment)


# ---------------------------------------------------------------------- what does not fit


@pytest.fixture
def changed(trained_copy):
    """Return the experiment after a change of its config.json, and its state before anything is loaded."""

    def change(**tables):
        file = trained_copy / "config.json"
        data = json.loads(file.read_text())
        for name, table in tables.items():
            data[name] = {**(data[name] or {}), **table}
        file.write_text(json.dumps(data))
        return ExperimentManager.from_run(trained_copy)

    return change


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"model": {"options": {"channels": 2}}}, r"does not fit the model: 2 of another shape"),
        ({"loss": {"preset": None, "config": {"type": "dice"}}}, r"loss.config.dice_config = .* says None"),
        (
            {"loss": {"config": {"dice_config": {"smooth": 1.0}}}},
            r"says {'smooth': 1.0}, which a resume cannot change: .* begin a new run",
        ),
        ({"optimizer": {"name": "SGD", "options": {"lr": 0.1}}}, r"optimizer.name = 'AdamW' .* says 'SGD'"),
        ({"scheduler": {"name": "StepLR", "options": {"step_size": 2}}}, r"scheduler.every = None .* says 'step'"),
    ],
)
def test_checkpoint_that_does_not_fit_changes_nothing(tables, message, changed, unpack):
    """Neither weights nor anything else, whichever part it is that does not fit."""
    experiment = changed(**tables)
    before = unpack([experiment.engine.model.state_dict(), experiment.engine.loss.state_dict()])
    with pytest.raises(MismatchError, match=message):
        experiment.restore("latest")
    after = unpack([experiment.engine.model.state_dict(), experiment.engine.loss.state_dict()])

    assert 0 == experiment.engine.position.step
    assert all(torch.equal(one, after[name]) for name, one in before.items())


def test_checkpoint_of_somebody_else_is_no_run_to_resume(configure, run_dir, tmp_path):
    """Weights alone say neither where training was nor what the loss was."""
    experiment = ExperimentManager(configure(), run_dir).setup()
    manager = CheckpointManager(tmp_path / "other", "model")
    path = manager.save_checkpoint(experiment.engine.model, experiment.engine.optimizer, epoch=1)
    with pytest.raises(CheckpointNotFoundError, match="holds no engine, environment, experiment, loss"):
        experiment.restore(path)


def test_corrupt_checkpoint_that_was_named_is_an_error(trained_copy):
    """Another one is not what was asked for."""
    file = trained_copy / "checkpoints/model/epoch_1/model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CorruptCheckpointError, match=r"model.safetensors has .* bytes where"):
        ExperimentManager.from_run(trained_copy).restore("epoch_1")


def test_changed_settings_and_data_are_said(trained_copy, changed):
    """The rest need not be equal to the bit, and nobody is left to guess why."""
    experiment = changed(
        training={"clip_norm": 1.0, "log_every": 7, "num_epochs": 4},
        data={"options": {"length": 11}, "workers": 1},
        checkpoints={"max_checkpoints": 2},
    )
    pattern = (
        r"going on from epoch_3, and the rest need not be equal to the bit: data.options.length was None, is 11; "
        r"training samples was 12, is 11; training.clip_norm was None, is 1.0$"
    )
    with pytest.warns(ResumeWarning, match=pattern):
        experiment.resume_training()


STEPS = {"name": "StepLR", "options": {"step_size": 2, "gamma": 0.5}}


def test_settings_that_the_state_puts_back_are_those_of_the_checkpoint(configure, run_dir, tmp_path, bits):
    """It is said of each, no bit is another, and no file has what was never used."""
    plain = {"optimizer": {"options": {"lr": 0.01}}, "scheduler": STEPS}
    other = {
        "optimizer": {"options": {"lr": 0.5}},
        "scheduler": {**STEPS, "options": {"step_size": 1, "gamma": 0.1}},
        "loss": {"preset": "default_segmentation", "config": {"dice_weight": 0.1}},
    }
    ExperimentManager(configure(**plain), tmp_path / "whole").run()
    ExperimentManager(configure(**plain, training={"num_epochs": 1}), run_dir).run()
    experiment = ExperimentManager(configure(**other), run_dir)
    with pytest.warns(ResumeWarning, match="optimizer.options.lr is 0.01, as in the checkpoint, and not 0.5"):
        experiment.run(resume_from_checkpoint="latest")
    written = json.loads((run_dir / "config.json").read_text())
    rows = {key: said for kind, key, said in experiment.resume_report.rows() if kind == "kept"}

    assert bits(tmp_path / "whole")[0]["model.safetensors"] == bits(run_dir)[0]["model.safetensors"]
    assert json.loads((tmp_path / "whole/config.json").read_text()) == written
    assert written == json.loads(json.dumps(as_data(experiment.config)))
    assert "0.01: the checkpoint's holds, not 0.5" == rows["optimizer.options.lr"]
    assert {*rows} == {
        "loss.config.dice_weight", "optimizer.options.lr", "scheduler.options.gamma", "scheduler.options.step_size"
    }  # fmt: skip
    assert experiment.resume_report.to_the_bit


def test_restart_with_the_first_configuration_goes_on_to_the_end_of_an_extended_run(configure, run_dir, caplog):
    """The larger number of epochs holds, in the run's configuration too, and it is said."""
    ExperimentManager(configure(training={"num_epochs": 1}), run_dir).run()
    ExperimentManager.from_run(run_dir).resume_training(1)
    file = run_dir / "config.json"
    data = json.loads(file.read_text())
    data["training"]["num_epochs"] = 3
    file.write_text(json.dumps(data))
    experiment = ExperimentManager(configure(training={"num_epochs": 1}), run_dir)
    experiment.run(resume_from_checkpoint="latest")

    assert 3 == experiment.engine.position.epoch == json.loads(file.read_text())["training"]["num_epochs"]
    assert "training.num_epochs = 1 is less than the 3" in caplog.text


def test_changed_threads_are_said(trained_copy, changed):
    """Sums over another number of threads round differently."""
    experiment = changed(training={"threads": 2, "num_epochs": 4})
    try:
        with pytest.warns(ResumeWarning, match="threads was 1, is 2$"):
            experiment.resume_training()
    finally:
        torch.set_num_threads(1)
    resumed = [line for line in read_journal(trained_copy / "metrics.jsonl") if line["event"] == "resumed"]

    assert [["threads was 1, is 2"]] == [line["differences"] for line in resumed]


# ---------------------------------------------------------------------- those who listen


class Listener:
    """Hears of runs."""

    def __init__(self, *, fails=False):
        self.heard = []
        self._fails = fails

    @hookimpl
    def mlc_run_started(self, run):
        """Note it."""
        self.heard.append(("started", run))
        self._maybe_fail()

    @hookimpl
    def mlc_run_ended(self, run, error):
        """Note it."""
        self.heard.append(("ended", error))
        self._maybe_fail()

    def _maybe_fail(self):
        if self._fails:
            msg = "I never wanted to know"
            raise RuntimeError(msg)


@pytest.fixture
def listen(monkeypatch):
    """Register a listener, and no other plugin."""

    def register(**options):
        plugins = Plugins(strict=False, choice=Choice(only=frozenset()))
        plugins.add_home("mlc_trainer")
        listener = Listener(**options)
        plugins.register(listener, "listener")
        monkeypatch.setattr("mlc_trainer.events.shared", lambda: plugins)
        return listener

    return register


def test_plugins_hear_of_the_beginning_and_the_end(listen, configure, run_dir):
    """Each once, with the run's id, which is that of its checkpoints, and the same after a restart."""
    listener = listen()
    experiment = ExperimentManager(configure(), run_dir)
    experiment.run()
    ExperimentManager.from_run(run_dir).resume_training(1)
    runs = [fact for what, fact in listener.heard if what == "started"]

    assert ["started", "ended"] * 2 == [what for what, _ in listener.heard]
    assert {one.run for one in experiment.checkpoints.list_checkpoints()} == {run.id for run in runs}
    assert [None, "epoch_3"] == [run.resumed_from for run in runs]
    assert [(run_dir, "model", 3, 3), (run_dir, "model", 4, 3)] == [
        (run.directory, run.model_name, run.num_epochs, run.batches_per_epoch) for run in runs
    ]
    assert [None, None] == [fact for what, fact in listener.heard if what == "ended"]


def test_plugins_hear_of_a_failure(listen, configure, run_dir, killer, killed):
    """With the error itself, an interrupt too."""
    listener = listen()
    with pytest.raises(killed) as caught:
        ExperimentManager(configure(), run_dir, observers=[killer(1)]).run()

    assert ("ended", caught.value) == listener.heard[-1]


def test_plugin_that_fails_harms_nothing(listen, configure, run_dir, caplog):
    """It is named in the log."""
    listener = listen(fails=True)
    ExperimentManager(configure(), run_dir).run()

    assert 2 == len(listener.heard)
    assert "plugin listener failed when told mlc_run_ended: RuntimeError: I never wanted to know" in caplog.text


def test_observer_that_fails_at_the_end_harms_nothing(configure, run_dir, watcher, caplog):
    """The others are told, and the journal is complete."""
    told = []

    def fail(*_):
        msg = "no more"
        raise RuntimeError(msg)

    observers = [watcher(run_ended=fail), watcher(run_ended=lambda *facts: told.append(facts))]
    with caplog.at_level(logging.WARNING):
        ExperimentManager(configure(), run_dir, observers=observers).run()

    assert 1 == len(told)
    assert "ended" == read_journal(run_dir / "metrics.jsonl")[-1]["event"]
    assert "observer Watcher failed when told that the run ended: no more" in caplog.text


def test_observer_that_fails_at_the_beginning_ends_the_run(configure, run_dir, watcher, listen):
    """Those who had begun are told of the end, the others not."""
    listener, told = listen(), []

    def fail(*_):
        msg = "not today"
        raise RuntimeError(msg)

    one = watcher(run_ended=lambda *facts: told.append("one"))
    other = watcher(run_started=fail, run_ended=lambda *facts: told.append("other"))
    with pytest.raises(RuntimeError, match="not today"):
        ExperimentManager(configure(), run_dir, observers=[one, other]).run()

    assert ["one"] == told
    assert ["started", "ended"] == [what for what, _ in listener.heard]


# ---------------------------------------------------------------------- parts that cannot be used


@pytest.mark.parametrize(
    ("tables", "error", "message"),
    [
        ({"model": {"factory": "tiny:Nett"}}, FactoryError, r"'tiny' has no 'Nett'. Did you mean 'Net'\?"),
        ({"model": {"factory": "tiny:Blobs"}}, FactoryError, "is not a subclass of torch.nn.modules.module.Module"),
        ({"model": {"factory": "os:system"}}, FactoryError, "'os:system' is not a subclass"),
        ({"model": {"factory": "tiny:make_net"}}, FactoryError, "is not a subclass"),
        ({"model": {"factory": "tinny:Net"}}, FactoryError, "cannot import 'tinny'.*is its directory the current one"),
        ({"model": {"factory": "Net"}}, FactoryError, "must be spelled package.module:Class$"),
        ({"model": {"factory": ":Net"}}, FactoryError, "must be spelled package.module:Class$"),
        ({"model": {"factory": ".tiny:Net"}}, FactoryError, "must be spelled package.module:Class$"),
        ({"model": {"factory": "tiny:Net", "options": {"chanels": 2}}}, FactoryError, "it takes: .*channels=1"),
        (
            {"model": {"factory": "tiny:Net", "options": {"dropout": 3}}},
            FactoryError,
            "Net does not take .*between 0 and 1",
        ),
        ({"model": {"factory": "tiny:Net", "name": "a/b"}}, ConfigurationError, "'a/b' cannot be the name"),
        ({"data": {"factory": "tiny:Half"}}, FactoryError, "'tiny:Half' has no method validation; it needs training,"),
        (
            {"data": {"factory": "tiny:Blobs", "options": {"length": 3}, "drop_last": True}},
            ConfigError,
            "3 training samples make no batch of 4; add data or lower data.batch_size",
        ),
        ({"data": {"factory": "tiny:Odd", "options": {"what": "stream"}}}, ConfigError, "has no length or no items"),
        (
            {"data": {"factory": "tiny:Odd", "options": {"what": "nothing"}}},
            ConfigError,
            "0 training samples make no batch of 8; add data$",
        ),
        (
            {"data": {"factory": "tiny:Odd", "options": {"what": "unmeasured"}}},
            ConfigError,
            "0 validation samples make no batch of 8; add data$",
        ),
        ({"model": {"factory": "tiny:Bare"}}, ConfigError, "tiny:Bare has no parameters to train: its constructor"),
        (
            {"optimizer": {"name": "SGD", "options": {"lr": "fast"}}},
            ConfigError,
            "optimizer.options.lr = 'fast' is a text and must be a number, as 1e-3",
        ),
        (
            {"scheduler": {"name": "StepLR", "options": {"step_size": 0}}},
            ConfigError,
            "scheduler.options.step_size = 0 must be more than 0",
        ),
        ({"optimizer": {"name": "AdamV"}}, FactoryError, r"'torch.optim' has no 'AdamV'. Did you mean"),
        ({"optimizer": {"name": "a b"}}, FactoryError, "or be a name in torch.optim"),
        (
            {"optimizer": {"name": "SGD", "options": {"lr": -1.0}}},
            FactoryError,
            "SGD does not take .*Invalid learning rate",
        ),
        ({"optimizer": {"name": "LBFGS"}}, FactoryError, "LBFGS cannot be used here: its step.*closure"),
        (
            {"scheduler": {"name": "ReduceLROnPlateau"}},
            FactoryError,
            "ReduceLROnPlateau cannot be used here: .*metrics",
        ),
        ({"scheduler": {"name": "LRScheduler.x"}}, FactoryError, "or be a name in torch.optim.lr_scheduler"),
        ({"metrics": {"factory": "tiny:Net"}}, FactoryError, "has no method update, compute"),
        (
            {"metrics": {"factory": "mlc_trainer.metrics:DiceScore", "options": {"classes": []}}},
            ConfigError,
            "classes = .. must be one or more names",
        ),
        ({"training": {"device": "cuda:9"}}, ConfigError, "device 'cuda:9' cannot be used here .*'auto' takes CUDA"),
        ({"training": {"device": "tpu"}}, ConfigError, "device 'tpu' cannot be used here"),
    ],
)
def test_part_that_cannot_be_used_is_refused_before_anything_is_written(tables, error, message, configure, run_dir):
    """It says what would do."""
    if "data" in tables and tables["data"]["factory"] == "tiny:Odd":
        tables["data"]["batch_size"] = 8
    with pytest.raises(error, match=message):
        ExperimentManager(configure(**tables), run_dir).run()
    assert not run_dir.exists()


def test_dataset_that_gives_no_pairs_is_refused_at_the_first_step(configure, run_dir):
    """With what it gives."""
    config = configure(data={"factory": "tiny:Odd", "options": {"what": "triples"}})
    with pytest.raises(ConfigError, match="a batch is 3 parts; a dataset must give pairs of input and target"):
        ExperimentManager(config, run_dir).run()


def test_dataset_that_gives_no_tensors_is_refused_at_the_first_step(configure, run_dir):
    """With what it gives."""
    config = configure(data={"factory": "tiny:Odd", "options": {"what": "lists"}})
    with pytest.raises(ConfigError, match="the input of a batch is a list and must be a tensor"):
        ExperimentManager(config, run_dir).run()


def test_metric_that_is_no_number_is_named(configure, run_dir):
    """Wherever numbers are asked for: a text is none, nor is a tensor of several."""
    with pytest.raises(ConfigError, match="the metric 'mood' is 'good', and must be one number"):
        ExperimentManager(configure(metrics={"factory": "tiny:Wordy"}), run_dir).run()
    with pytest.raises(ConfigError, match=r"the metric 'val_x' is a tensor \(2,\), and must be one number"):
        as_floats({"val_x": torch.zeros(2)})


def test_run_without_a_directory_lies_among_runs_by_its_name(configure, tmp_path, monkeypatch):
    """As the command would have it."""
    monkeypatch.chdir(tmp_path)
    config = configure(model={"factory": "tiny:Net", "name": "blobs"}, training={"num_epochs": 1})
    ExperimentManager(config).run()

    assert (tmp_path / "runs/blobs/checkpoints/blobs/epoch_1").is_dir()


def test_automatic_device_is_the_cpu_where_there_is_no_other(configure, monkeypatch):
    """And CUDA where there is one: it is used at once, since it has no generators to seed before."""
    from mlc_trainer import assembly

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch.device("cpu") == assembly.pick_device("auto")
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)  # as in the second of several processes
    monkeypatch.setattr(torch, "empty", lambda *_, device: asked.append(device))
    assert torch.device("cuda:1") == assembly.pick_device("auto")
    assert [torch.device("cuda:1")] == asked


def test_metrics_of_somebody_else(configure, run_dir):
    """Anything with update and compute."""
    metrics = ExperimentManager(configure(metrics={"factory": "tiny:Accuracy"}), run_dir).run()

    assert 0 <= metrics["val_accuracy"] <= 1


def test_without_metrics_the_losses_are_measured(configure, run_dir):
    """Nothing else is."""
    config = configure(metrics=None, loss={"config": {"type": "dice"}, "preset": None})
    metrics = ExperimentManager(config, run_dir).run(1)

    assert {"val_loss", "train_loss", "lr"} == set(metrics)


def test_a_copied_run_goes_on(trained, tmp_path, trained_copy, bits):
    """A run directory names no place outside of it."""
    moved = tmp_path / "elsewhere"
    shutil.move(trained_copy, moved)
    ExperimentManager.from_run(moved).resume_training(1)

    assert 4 == bits(moved)[3]
