"""What a loop that its user owns can get wrong, and what it is told then: nothing is lost by it."""

import os
import signal

import pytest
import torch
from tiny import Images, Net
from torch.utils.data import DataLoader

from mlc_hooks import Plugins, hookimpl
from mlc_hooks.choice import Choice
from mlc_trainer import PreemptedError, ResumeWarning, RunError, TrainingManager, quick_training_setup

LOSS = {"type": "combined", "dice_weight": 0.8, "bce_weight": 0.2}


def parts():
    """Return a model, its optimizer and its schedule, always the same."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)


def foreign():
    """Return a loader as users have them."""
    return DataLoader(Images(length=12, channels=1, first=0), batch_size=4, shuffle=True)


def set_up(place, **checkpoints):
    """Return a manager, and a model with its optimizer and schedule."""
    manager = TrainingManager(place, "unet")
    manager.setup_loss_function(LOSS)
    manager.setup_checkpointing({"save_strategy": "epoch", **checkpoints})
    return manager, parts()


def train(manager, trained, *, epochs=1, late=False, resume=True):
    """Train; *late* steps the scheduler after saving. Return the rates of the epochs."""
    model, optimizer, scheduler = trained
    if resume:
        manager.resume(model, optimizer, scheduler)
    rates = []
    for epoch in manager.epochs(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        for batch in manager.batches(foreign()):
            manager.train_step(model, batch, optimizer)
        if not late:
            scheduler.step()
        manager.save_checkpoint(model, optimizer, scheduler, epoch, {"val_dice": 1 / (epoch + 1)})
        manager.end_epoch(epoch)
        if late:
            scheduler.step()
    return rates


def test_scheduler_that_is_stepped_after_saving_is_said(tmp_path):
    """A checkpoint with the rate of before would be gone on from with the rate of before."""
    with pytest.raises(RunError, match=r"scheduler.step\(\) came after save_checkpoint at the end of epoch 0"):
        train(*set_up(tmp_path / "late"), epochs=3, late=True)


def test_rates_go_on_where_they_were(tmp_path):
    """Stepped before saving, a restart trains on with the rate that an undisturbed run would."""
    whole = train(*set_up(tmp_path / "whole"), epochs=4)
    train(*set_up(tmp_path / "two"), epochs=2)

    assert whole[2:] == train(*set_up(tmp_path / "two"), epochs=4)


def test_what_an_earlier_training_left_is_not_overwritten(tmp_path):
    """Training that does not go on from what is there does not begin, and the journal stays."""
    train(*set_up(tmp_path), epochs=2)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    manager, trained = set_up(tmp_path)

    with pytest.raises(RunError, match="is of an earlier training; resume"):
        train(manager, trained, resume=False)
    assert before == (tmp_path / "metrics.jsonl").read_bytes()
    assert ["epoch_0", "epoch_1"] == sorted(one.name for one in manager.checkpoint_manager.list_checkpoints())


def test_second_model_in_the_directory_of_another_is_refused(tmp_path):
    """A journal tells of one training."""
    train(*set_up(tmp_path))
    other = TrainingManager(tmp_path, "other")
    other.setup_loss_function(LOSS)
    other.setup_checkpointing({"save_strategy": "epoch"})

    with pytest.raises(RunError, match="the journal of 1 epochs is of an earlier training"):
        train(other, parts(), resume=False)


def test_signal_ends_a_loop_that_loads_for_itself(tmp_path):
    """Where batches do not come from the manager, training stops at the end of the epoch, which is saved."""
    manager, (model, optimizer, scheduler) = set_up(tmp_path)
    manager.resume(model, optimizer, scheduler)

    def loop():
        for epoch in manager.epochs(3):
            for batch in foreign():
                manager.train_step(model, batch, optimizer)
                os.kill(os.getpid(), signal.SIGTERM)
            manager.end_epoch(epoch)

    with pytest.raises(PreemptedError, match="SIGTERM came and training stopped at step 3, which is saved"):
        loop()
    again, trained = set_up(tmp_path)
    at = again.resume(*trained)
    assert (1, 0, 3) == (at.epoch, at.batch, at.step)


def test_latest_state_is_saved_after_every_epoch(tmp_path):
    """Whatever the strategy keeps for its merits, what is lost at most is one epoch."""
    manager = quick_training_setup(tmp_path, "unet")  # saves the best alone, and it only gets worse
    manager.setup_loss_function(LOSS)
    train(manager, parts(), epochs=4)
    again = quick_training_setup(tmp_path, "unet")
    again.setup_loss_function(LOSS)

    assert 4 == again.resume(*parts()).epoch
    assert "epoch_0" == again.checkpoint_manager.get_best_checkpoint_path().name


def test_optimizer_that_was_not_saved_stays_as_it_was_given(tmp_path):
    """Weights and position come back, and it is said that the rest need not be equal."""
    manager, trained = set_up(tmp_path, save_optimizer=False)
    train(manager, trained, epochs=1)
    again, (model, optimizer, scheduler) = set_up(tmp_path, save_optimizer=False)

    with pytest.warns(ResumeWarning, match="optimizer was not saved, is as it was given"):
        again.resume(model, optimizer, scheduler)
    assert 1 == again.position.epoch
    assert not again.resume_report.to_the_bit
    assert not optimizer.state
    assert all(torch.equal(one, model.state_dict()[name]) for name, one in trained[0].state_dict().items())


def test_epoch_without_a_batch_is_said(tmp_path):
    """An empty loader is named as what kept the epoch from ending."""
    manager, trained = set_up(tmp_path)
    manager.resume(*trained)

    def loop():
        for epoch in manager.epochs(1):
            list(manager.batches([]))
            manager.end_epoch(epoch)

    with pytest.raises(RunError, match="epoch 0 did not end: it had no batch"):
        loop()


def test_plugins_hear_of_it(tmp_path, monkeypatch):
    """A plugin hears of the beginning and the end of every training, whosever the loop is."""
    heard = []

    class Listener:
        @hookimpl
        def mlc_run_started(self, run):
            heard.append(("started", run.model_name))

        @hookimpl
        def mlc_run_ended(self, run, error):
            heard.append(("ended", run.model_name, error))

    plugins = Plugins(strict=False, choice=Choice(only=frozenset()))
    plugins.add_home("mlc_trainer")
    plugins.register(Listener(), "listener")
    monkeypatch.setattr("mlc_trainer.events.shared", lambda: plugins)
    train(*set_up(tmp_path))

    assert [("started", "unet"), ("ended", "unet", None)] == heard
