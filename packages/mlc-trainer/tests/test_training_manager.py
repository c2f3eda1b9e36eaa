"""Training in a loop that its user owns."""

import concurrent.futures
import errno
import itertools
import json
import os
import signal
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import Blobs, Images, Net
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from mlc_core import CheckpointManager, CheckpointWarning, DiskFullError, MismatchError, open_checkpoint
from mlc_hooks import UnknownNameError
from mlc_trainer import (
    ConfigError,
    ExperimentManager,
    PreemptedError,
    ResumeWarning,
    RunError,
    TrainingManager,
    create_training_manager,
    quick_training_setup,
    read_journal,
)

EPOCHS = 3
ADAPTIVE = {"type": "combined", "dice_weight": 0.8, "bce_weight": 0.2, "scheduler": {"type": "adaptive"}}


class Killed(BaseException):
    """As a keyboard interrupt is."""


def parts(seed=0):
    """Return a model, its optimizer and its schedule, always the same."""
    torch.manual_seed(seed)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)


def foreign(workers=0):
    """Return a loader as users have them: shuffled, augmented, of torch's own."""
    return DataLoader(Images(length=12, channels=1, first=0), batch_size=4, shuffle=True, num_workers=workers)


def train(place, *, loader=foreign, die_at=None, moment="step", loss=ADAPTIVE, **options):
    """Train as the documents do; die when it is told, and return the manager and the model."""
    manager = TrainingManager(place, "unet", **options)
    manager.setup_loss_function(loss)
    manager.setup_checkpointing(
        {"save_strategy": lambda _: "always", "max_checkpoints": 9, "monitor_metric": "val_dice", "mode": "max"}
    )
    model, optimizer, scheduler = parts()
    manager.resume(model, optimizer, scheduler)
    batches = loader() if loader is foreign else loader(manager)
    validation = DataLoader(Images(length=3, channels=1, first=1000), batch_size=4)

    def perhaps_die(here):
        if (manager.position.step, here) == (die_at, moment):
            raise Killed

    for epoch in manager.epochs(EPOCHS):
        values = manager.last_values  # after a restart there may be no batch left
        for batch in manager.batches(batches):
            values = manager.train_step(model, batch, optimizer, "cpu")
            perhaps_die("step")
            if manager.position.step % 2 == 0 and manager.position.batch < 3:
                manager.save_checkpoint(model, optimizer, scheduler, epoch, epoch_ended=False)
        found = manager.validation_step(model, validation, "cpu")
        scheduler.step()
        perhaps_die("measured")
        location = manager.save_checkpoint(model, optimizer, scheduler, epoch, {**values, **found})
        assert (location is None) is bool(options.get("asynchronous"))
        perhaps_die("saved")
        manager.end_epoch(epoch, values, found)
        perhaps_die("ended")
    return manager, model


def state(manager, model):
    """Return everything that a further step depends on."""
    engine = manager._engine
    return [model.state_dict(), engine.optimizer.state_dict(), *(one.state_dict() for one in engine.parts.values())]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, unpack):
    """Return what training comes to if nobody kills it."""
    found = {}

    def get(name, **options):
        if name not in found:
            manager, model = train(tmp_path_factory.mktemp("whole"), **options)
            found[name] = unpack(state(manager, model)), read_journal(manager.journal)
        return found[name]

    return get


LOADERS = {
    "foreign": {"loader": foreign},
    "ours": {"loader": lambda manager: manager.loader(Images(length=12, channels=1, first=0), batch_size=4)},
}


@settings(deadline=None, max_examples=25)
@given(
    which=st.sampled_from(sorted(LOADERS)),
    deaths=st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from(["step", "measured", "saved", "ended"])), min_size=1, max_size=3
    ),
)
def test_killed_anywhere_and_started_again_is_equal_to_the_bit(which, deaths, tmp_path_factory, undisturbed, unpack):
    """With torch's own loader and with ours, in the middle of an epoch and between any two calls."""
    place = tmp_path_factory.mktemp("killed")
    for step, moment in sorted(deaths):
        try:
            train(place, die_at=step, moment=moment, **LOADERS[which])
        except Killed:
            continue
    manager, model = train(place, **LOADERS[which])
    expected, told = undisturbed(which, **LOADERS[which])
    found = unpack(state(manager, model))

    assert expected.keys() == found.keys()
    assert [] == [name for name, one in expected.items() if not torch.equal(one, found[name])]
    epochs = [
        [{**line, "at": None} for line in lines if line["event"] == "epoch"]
        for lines in (told, read_journal(manager.journal))
    ]
    assert epochs[0] == epochs[1]


def test_the_same_bits_as_the_loop_that_is_ours(configure, tmp_path, unpack):
    """One engine, two ways in: the same model, data, loss and optimizer come to the same weights and metrics."""
    config = configure(
        training={"num_epochs": EPOCHS, "clip_norm": 0.5, "ema_decay": 0.9, "accumulate": 2},
        loss={"config": ADAPTIVE},
        optimizer={"name": "SGD", "options": {"lr": 0.05}},
    )
    experiment = ExperimentManager(config, tmp_path / "managed").setup()
    model = Net()
    model.load_state_dict(experiment.engine.model.state_dict())
    metrics = experiment.run()

    manager = TrainingManager(tmp_path / "owned", "net", clip_norm=0.5, ema_decay=0.9, accumulate=2)
    manager.setup_loss_function(ADAPTIVE)
    manager.setup_checkpointing({"save_strategy": "epoch"})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    manager.resume(model, optimizer)
    data = Blobs()
    loader = manager.loader(data.training(), batch_size=4)
    validation = manager.loader(data.validation(), batch_size=4, shuffle=False)
    for epoch in manager.epochs(EPOCHS):
        for batch in manager.batches(loader):
            manager.train_step(model, batch, optimizer)
        summary = manager.end_epoch(epoch, val_metrics=manager.validation_step(model, validation))

    left, right = unpack(model.state_dict()), unpack(experiment.engine.model.state_dict())
    assert all(torch.equal(one, right[name]) for name, one in left.items())
    numbers = {name.replace("_blob", "_1"): one for name, one in metrics.items()}
    assert numbers == summary["metrics"]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_of_a_foreign_loader_repeat_too(workers, tmp_path, undisturbed, unpack):
    """Their seeds come from the loader's draw, which is made from ours."""
    options = {"loader": lambda _: foreign(workers)}
    with pytest.raises(Killed):
        train(tmp_path, die_at=5, **options)
    found = unpack(state(*train(tmp_path, **options)))
    expected, _ = undisturbed(f"workers {workers}", **options)

    assert [] == [name for name, one in expected.items() if not torch.equal(one, found[name])]


def test_workers_that_outlive_epochs_cannot_be_restored(tmp_path):
    """Which is said when it matters, and not before."""
    images = Images(length=12, channels=1, first=0)
    stubborn = {"loader": lambda _: DataLoader(images, batch_size=4, num_workers=1, persistent_workers=True)}
    with pytest.raises(Killed):
        train(tmp_path, die_at=5, **stubborn)
    with pytest.warns(ResumeWarning, match="use manager.loader"):
        train(tmp_path, **stubborn)


@pytest.mark.parametrize("step", [1, 3, 5])
def test_signal_ends_it_at_the_next_batch(step, tmp_path, undisturbed, unpack, monkeypatch):
    """And where it stands is saved."""
    taken = TrainingManager.train_step

    def strike(self, *arguments):
        values = taken(self, *arguments)
        if self.position.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return values

    with monkeypatch.context() as patch:
        patch.setattr(TrainingManager, "train_step", strike)
        with pytest.raises(PreemptedError, match="SIGTERM came and training stopped at step"):
            train(tmp_path)
    assert signal.SIG_DFL == signal.getsignal(signal.SIGTERM)
    found = unpack(state(*train(tmp_path)))
    expected, _ = undisturbed("foreign")
    assert [] == [name for name, one in expected.items() if not torch.equal(one, found[name])]


# ---------------------------------------------------------------------- saves in the background


def saved_steps(manager):
    """Return the steps of which the journal tells that they were saved, in its order."""
    return [line["step"] for line in read_journal(manager.journal) if line["event"] == "checkpoint"]


@pytest.mark.parametrize(("die_at", "moment", "untold"), [(2, "step", set()), (5, "step", {4}), (6, "saved", {6})])
def test_saves_in_the_background_change_no_bit(die_at, moment, untold, tmp_path, undisturbed, unpack):
    """Killed while one is under way or not; each is told when it is durable, but for one that became so too late."""
    with pytest.raises(Killed):
        train(tmp_path, die_at=die_at, moment=moment, asynchronous=True)
    manager, model = train(tmp_path, asynchronous=True)
    found, (expected, _) = unpack(state(manager, model)), undisturbed("foreign")

    assert [] == [name for name, one in expected.items() if not torch.equal(one, found[name])]
    assert {2, 3, 4, 6, 8, 9} - {*saved_steps(manager)} <= untold
    assert 9 == open_checkpoint(manager.checkpoint_manager.get_latest_checkpoint_path()).saved.step


def test_what_goes_wrong_in_the_background_ends_the_loop_at_the_next_step(tmp_path, monkeypatch):
    """And is raised by `wait`, as the same error."""
    manager, model, optimizer, _ = small(tmp_path, asynchronous=True)
    batch, fsync, here = next(iter(foreign())), os.fsync, threading.get_ident()

    def fail(descriptor):
        if threading.get_ident() != here:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)

    def save():
        assert manager.save_checkpoint(model, optimizer, None, 0, epoch_ended=False) is None
        concurrent.futures.wait([manager._saving.under_way.saving.durable])

    for then in (lambda: manager.train_step(model, batch, optimizer), manager.wait):
        manager.train_step(model, batch, optimizer)
        with pytest.warns(CheckpointWarning, match="could not be saved in the background"):
            save()
        with pytest.raises(DiskFullError):
            then()
    assert [] == saved_steps(manager)


# ---------------------------------------------------------------------- what the documents do


def test_three_lines_from_the_documents(tmp_path):
    """`quick_training_setup` and a loop."""
    manager = quick_training_setup(model_dir=tmp_path, model_name="coronary_unet_v1")
    model, optimizer, scheduler = parts()
    for epoch in range(2):
        for inputs, targets in foreign():
            step_metrics = manager.train_step(model, (inputs, targets), optimizer, torch.device("cpu"))
        val_metrics = manager.validation_step(model, foreign(), "cpu")
        path = manager.save_checkpoint(model, optimizer, scheduler, epoch, {**step_metrics, **val_metrics})
        summary = manager.end_epoch(epoch, step_metrics, val_metrics)
    told = manager.get_training_summary()

    assert path is None or path.is_dir()
    assert {"loss", "dice_loss", "bce_loss", "val_dice", "train_loss", "lr"} <= set(summary["metrics"])
    assert (2, 6) == (told["training_progress"]["total_epochs"], told["training_progress"]["total_steps"])
    assert 0 <= told["model_info"]["best_metric"] <= 1
    assert 1 <= told["checkpoint_info"]["total_checkpoints"] == manager.get_checkpoint_summary()["total_checkpoints"]
    exported = json.loads(manager.export_training_data().read_text())
    assert [1, 2] == [one["epoch"] for one in exported["epochs"]]
    assert manager.checkpoint_manager.get_best_checkpoint_path().exists()


def test_setup_from_the_documents(tmp_path):
    """Presets by name, a loss with a schedule, automatic checkpoints."""
    manager = create_training_manager(
        model_dir=tmp_path, model_name="unet", loss_preset="focal_segmentation", checkpoint_preset="adaptive"
    )
    assert "focal" in str(manager.loss_function).lower() or "gamma" in str(manager.loss_function)
    manager.setup_loss_function(ADAPTIVE)
    checkpoints = {"manager_type": "auto", "auto_strategy": "adaptive", "max_checkpoints": 3}
    assert isinstance(manager.setup_checkpointing(checkpoints), CheckpointManager)
    model, optimizer, _ = parts()
    for batch in itertools.islice(foreign(), 2):
        manager.train_step(model, batch, optimizer)
    summary = manager.end_epoch(0)
    assert {"dice", "bce"} == set(summary["loss_weights"])
    assert summary["loss_weights"] != {"dice": 0.8, "bce": 0.2}


# ---------------------------------------------------------------------- what a review found


def small(place, **options):
    """Return a manager that saves always, with its parts."""
    manager = TrainingManager(place, "net", **options)
    manager.setup_loss_function({"type": "bce"})
    manager.setup_checkpointing({"save_strategy": lambda _: "always"})
    return manager, *parts()


def test_batches_that_are_passed_over_stay_so(tmp_path):
    """What counts is what was given out, not what was trained on."""
    seen = []
    for stop in (3, 99):
        manager, model, optimizer, _ = small(tmp_path)
        manager.resume(model, optimizer)
        images = [(torch.full((2, 1, 8, 8), float(one)), torch.ones(2, 1, 8, 8)) for one in range(6)]
        for epoch in manager.epochs(1):
            for number, batch in enumerate(manager.batches(DataLoader(images, batch_size=None))):
                if number == stop:
                    break
                if float(batch[0].mean()) == 1:
                    continue
                seen.append(int(batch[0].mean()))
                manager.train_step(model, batch, optimizer)
                manager.save_checkpoint(model, optimizer, None, epoch, epoch_ended=False)
            else:
                manager.end_epoch(epoch)
                continue
            break
    assert [0, 2, 3, 4, 5] == seen


def test_metrics_given_after_the_end_of_an_epoch_are_saved(tmp_path):
    """Whichever of the two calls comes first."""
    manager = quick_training_setup(tmp_path, "net")
    model, optimizer, _ = parts()
    manager.train_step(model, next(iter(foreign())), optimizer)
    manager.end_epoch(0)
    path = manager.save_checkpoint(model, optimizer, None, 0, {"val_dice": 0.5})

    assert path is not None
    assert 0.5 == manager.get_checkpoint_summary()["best_metric"]


def test_generator_of_a_batch_sampler_is_started_anew(tmp_path):
    """Wherever a loader hides it."""
    orders = []
    for _ in range(2):
        manager, model, optimizer, _ = small(tmp_path / str(len(orders)))
        manager.resume(model, optimizer)
        sampler = RandomSampler(range(12), generator=torch.Generator().manual_seed(len(orders)))
        loader = DataLoader(Images(length=12, channels=1, first=0), batch_sampler=BatchSampler(sampler, 4, False))
        orders.append([batch[0] for batch in manager.batches(loader)])
    assert all(torch.equal(*pair) for pair in zip(*orders, strict=True))


def test_what_is_not_as_it_was_is_said(tmp_path):
    """Options warn; a part too many, a part too few and a forgotten scheduler are refused."""
    manager, model, optimizer, scheduler = small(tmp_path, ema_decay=0.9)
    manager.train_step(model, next(iter(foreign())), optimizer)
    manager.save_checkpoint(model, optimizer, scheduler, 0)
    for options, handed, error, message in (
        ({}, scheduler, MismatchError, "also holds average"),
        ({"ema_decay": 0.9}, None, MismatchError, "holds a scheduler and none is given"),
        ({"ema_decay": 0.9, "precision": "fp16"}, scheduler, MismatchError, "holds no scaler"),
    ):
        other, model, optimizer, _ = small(tmp_path, **options)
        with pytest.raises(error, match=message):
            other.resume(model, optimizer, handed)
    again, model, optimizer, scheduler = small(tmp_path, ema_decay=0.9, seed=3)
    with pytest.warns(ResumeWarning, match="seed was 0, is 3"):
        again.resume(model, optimizer, scheduler)
    with pytest.raises(RunError, match="another model"):
        again.save_checkpoint(Net(), optimizer)


def test_options_that_cannot_be_followed(tmp_path):
    """Are refused as those of a configuration are."""
    for options, message in (
        ({"precision": "float16"}, "precision = 'float16' must be"),
        ({"clip_norm": -1.0}, "clip_norm = -1.0 must be more than 0"),
        ({"accumulate": 0}, "accumulate = 0 must be 1 or more"),
        ({"ema_decay": 2.0}, "ema_decay = 2.0 must lie between"),
        ({"on_nonfinite": "rollback"}, "is for a loop that is ours"),
    ):
        with pytest.raises(ConfigError, match=message):
            TrainingManager(tmp_path, "net", **options)


# ---------------------------------------------------------------------- what is refused


def test_what_comes_too_late_or_too_early(tmp_path):
    """Is said, with what to do."""
    manager = TrainingManager(tmp_path, "unet")
    model, optimizer, _ = parts()
    batch = next(iter(foreign()))
    with pytest.raises(RunError, match="no loss_function yet; call setup_loss_function"):
        manager.train_step(model, batch, optimizer)
    manager.setup_loss_function({"type": "bce"})
    with pytest.raises(RunError, match="no checkpoint_manager yet; call setup_checkpointing"):
        manager.train_step(model, batch, optimizer)
    manager.setup_checkpointing({"save_strategy": "epoch"})
    with pytest.raises(RunError, match="epoch 0 has had no step"):
        manager.end_epoch(0)
    manager.train_step(model, batch, optimizer)
    with pytest.raises(RunError, match="training has begun at step 1; the loss is set up before"):
        manager.setup_loss_function({"type": "bce"})
    with pytest.raises(RunError, match="another model or another optimizer"):
        manager.train_step(Net(), batch, optimizer)
    with pytest.raises(ConfigError, match="a batch is 1 parts"):
        manager.train_step(model, batch[:1], optimizer)
    with pytest.raises(ConfigError, match=r"the model is on cpu and the batch is to go to cuda; say model.to"):
        manager.train_step(model, batch, optimizer, "cuda")
    with pytest.raises(UnknownNameError, match="best_only"):
        create_training_manager(tmp_path, "unet", checkpoint_preset="best_onli")


def test_epoch_that_is_not_ended_is_said(tmp_path):
    """Instead of an endless loop."""
    manager = quick_training_setup(tmp_path, "unet")
    model, optimizer, _ = parts()
    epochs = manager.epochs(2)
    assert 0 == next(epochs)
    for batch in manager.batches(foreign()):
        manager.train_step(model, batch, optimizer)
    with pytest.raises(RunError, match="epoch 0 did not end: call end_epoch"):
        next(epochs)


# ---------------------------------------------------------------------- modes


@pytest.mark.parametrize("freeze", [lambda model: model.eval(), lambda model: model.layers[1].eval()])
def test_what_its_user_froze_stays_so(freeze, tmp_path):
    """All of the model or a part: no step and no validation takes it back, and `train()` does."""
    manager, model, optimizer, _ = small(tmp_path)
    freeze(model)
    modes = [one.training for one in model.modules()]
    manager.resume(model, optimizer)
    for batch in foreign():
        manager.train_step(model, batch, optimizer)
    manager.validation_step(model, foreign())
    manager.train_step(model, batch, optimizer)

    assert modes == [one.training for one in model.modules()]
    assert 0 == int(model.layers[1].num_batches_tracked)
    model.train()
    manager.train_step(model, batch, optimizer)
    assert 1 == int(model.layers[1].num_batches_tracked)
