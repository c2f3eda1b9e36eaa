"""Several processes in a loop that its user owns: the steps of one process, killed anywhere, stopped together."""

import os
import signal
import warnings

import pytest
import torch
from tiny import Blobs, Calm, Images, Net
from together import Fate, gang
from torch.utils.data import DataLoader, DistributedSampler

from mlc_core import ConfigurationError, open_checkpoint
from mlc_trainer import ConfigError, ExperimentManager, ResumeWarning, TrainingManager, read_journal

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes of these tests are forked")

EPOCHS = 2
LOSS = {"type": "combined", "dice_weight": 0.8, "bce_weight": 0.2, "scheduler": {"type": "adaptive"}}


def foreign(manager):
    """Return a loader as users have them, which every process has: shuffled, augmented, of torch's own."""
    return DataLoader(Images(length=10, channels=1, first=0), batch_size=4, shuffle=True)


def ours(manager):
    """Return what loads only this process's samples of the same batches."""
    return manager.loader(Images(length=10, channels=1, first=0), batch_size=4)


def train(place, *, loader=foreign, model=Net, own=False, shards=False, fate=None, **options):
    """Train as the documents do, with a checkpoint after every second step, and return manager and model."""
    manager = TrainingManager(place, "net", **options)
    manager.setup_loss_function(LOSS)
    manager.setup_checkpointing({"save_strategy": lambda _: "always"})
    torch.manual_seed(0)
    network = model()
    if shards:
        manager.shard(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)
    manager.resume(network, optimizer, scheduler)
    batches = loader(manager)
    validation = DataLoader(Images(length=3, channels=1, first=1000), batch_size=2)
    for epoch in manager.epochs(EPOCHS):
        for batch in manager.batches(batches, own=own):
            manager.train_step(network, batch, optimizer)
            if fate is not None:
                fate.hit(manager.position)
            if manager.position.step % 2 == 0 and manager.position.batch < 3:
                manager.save_checkpoint(network, optimizer, scheduler, epoch, epoch_ended=False)
        found = manager.validation_step(network, validation)
        scheduler.step()
        manager.save_checkpoint(network, optimizer, scheduler, epoch, found)
        manager.end_epoch(epoch, None, found)
    return manager, network


def trained(place, **options):
    """Return work for ranks, of whom some have a fate."""

    def work(rank, fates=None):
        train(place, fate=(fates or {}).get(rank), **options)

    return work


def result(place, pointer="latest"):
    """Return the digests of everything that was saved last, and what was measured after each epoch."""
    saved = open_checkpoint(place / "checkpoints" / "net" / pointer).saved
    lines = [{**one, "at": None} for one in read_journal(place / "metrics.jsonl") if one["event"] == "epoch"]
    return {one.name: one.xxh3_128 for one in saved.files}, lines, saved.step


def weights(place):
    """Return the weights that were saved last, put together."""
    return open_checkpoint(place / "checkpoints" / "net" / "latest").load(only="model")["model"]


# ---------------------------------------------------------------------- the steps of one process

SAME = [
    pytest.param({"loader": foreign, "ema_decay": 0.9}, id="foreign"),
    pytest.param({"loader": ours, "accumulate": 2, "clip_norm": 0.5}, id="ours, accumulated and clipped"),
    pytest.param({"loader": foreign, "accumulate": 2, "shards": True, "ema_decay": 0.9}, id="shards"),
]


@pytest.mark.parametrize("options", SAME)
def test_several_processes_take_the_steps_of_one(options, tmp_path):
    """Sums are all that differs, and each line of the journal is there once."""
    train(tmp_path / "one", model=Calm, **options)
    assert [0, 0] == gang(2, trained(tmp_path / "two", model=Calm, **options))

    (_, one, _), (_, two, _) = result(tmp_path / "one"), result(tmp_path / "two")
    expected = weights(tmp_path / "one")
    for name, tensor in weights(tmp_path / "two").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)
    assert EPOCHS == len(one)
    for here, there in zip(one, two, strict=True):
        numbers = {name: number for name, number in here.items() if isinstance(number, float)}
        assert numbers == pytest.approx({name: there[name] for name in numbers}, rel=1e-4, abs=1e-6)


def test_the_same_bits_as_the_loop_that_is_ours(configure, tmp_path):
    """One engine, two ways in, in several processes too."""
    config = configure(
        training={"num_epochs": EPOCHS, "clip_norm": 0.5, "ema_decay": 0.9, "accumulate": 2},
        loss={"config": LOSS},
        optimizer={"name": "SGD", "options": {"lr": 0.05}},
    )

    def work(rank):
        experiment = ExperimentManager(config, tmp_path / "managed").setup()
        model = Net()
        model.load_state_dict(experiment.engine.model.state_dict())
        metrics = experiment.run()
        manager = TrainingManager(tmp_path / "owned", "net", clip_norm=0.5, ema_decay=0.9, accumulate=2)
        manager.setup_loss_function(LOSS)
        manager.setup_checkpointing({"save_strategy": "epoch"})
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        manager.resume(model, optimizer)
        loader = manager.loader(Blobs().training(), batch_size=4)
        validation = manager.loader(Blobs().validation(), batch_size=4, shuffle=False)
        for epoch in manager.epochs(EPOCHS):
            for batch in manager.batches(loader):
                manager.train_step(model, batch, optimizer)
            found = manager.validation_step(model, validation)
            manager.save_checkpoint(model, optimizer, None, epoch, found)
            summary = manager.end_epoch(epoch, val_metrics=found)
        left, right = model.state_dict(), experiment.engine.model.state_dict()
        assert [] == [name for name, one in left.items() if not torch.equal(one, right[name])]
        assert {name.replace("_blob", "_1"): one for name, one in metrics.items()} == summary["metrics"]

    assert [0, 0] == gang(2, work)


# ---------------------------------------------------------------------- ends before the end


@pytest.mark.parametrize(
    ("options", "fates"),
    [
        pytest.param({"loader": foreign, "ema_decay": 0.9}, {1: Fate(4)}, id="killed"),
        pytest.param({"loader": ours, "shards": True, "ema_decay": 0.9}, {0: Fate(3)}, id="killed in shards"),
        pytest.param({"loader": foreign}, {1: Fate(3, signal.SIGTERM)}, id="stopped"),
    ],
)
def test_one_that_ends_and_all_that_start_again_come_to_the_same_bits(options, fates, tmp_path):
    """Killed, or told to stop, which all do at the same step: dropout and batch statistics go on as if nothing was."""
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert [0, 0] == gang(2, trained(undisturbed, **options))
    ends = gang(2, lambda rank: trained(disturbed, **options)(rank, fates))
    ((rank, fate),) = fates.items()
    if fate.number == signal.SIGTERM:
        assert [143, 143] == ends
        assert 3 == open_checkpoint(disturbed / "checkpoints" / "net" / "latest").saved.step
    assert ends[rank] == (-signal.SIGKILL if fate.number == signal.SIGKILL else 143)
    assert [0, 0] == gang(2, trained(disturbed, **options))

    assert result(undisturbed) == result(disturbed)


def test_one_process_goes_on_where_several_were(tmp_path):
    """And the other way about; both times it is said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [143, 143] == gang(2, lambda rank: trained(tmp_path, model=Calm)(rank, {0: Fate(2, signal.SIGTERM)}))
    with pytest.warns(ResumeWarning, match="processes was 2, is 1"):
        manager, _ = train(tmp_path, model=Calm)

    assert (EPOCHS, 6) == (manager.position.epoch, manager.position.step)
    assert [0, 0] == gang(2, trained(tmp_path, model=Calm))


# ---------------------------------------------------------------------- whose samples are whose


def test_loaders_with_samples_of_their_own_add_up(tmp_path):
    """As one with a sampler for several processes: a step sees the batches of all."""
    images = [Images(length=12, channels=1, first=0)[index] for index in range(12)]

    def sampled(_):
        return DataLoader(images, batch_size=2, sampler=DistributedSampler(images, shuffle=False))

    def interleaved(_):  # the order of that sampler, in one process
        return DataLoader(images, batch_size=4)

    train(tmp_path / "one", loader=interleaved, model=Calm, accumulate=2)
    assert [0, 0] == gang(2, trained(tmp_path / "two", loader=sampled, own=True, model=Calm, accumulate=2))
    expected = weights(tmp_path / "one")
    for name, tensor in weights(tmp_path / "two").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)


def test_what_is_not_shared_out_as_it_was_said_is_refused(tmp_path):
    """By all processes, with a way out."""
    images = Images(length=12, channels=1, first=0)

    def sampled(_):
        return DataLoader(images, batch_size=2, sampler=DistributedSampler(images))

    def uneven(_):
        return DataLoader(images, batch_size=2, sampler=range(int(os.environ["RANK"]) * 4, 8))

    def work(rank):
        for options, words in (
            ({"loader": sampled}, "load different batches; say own=True"),
            ({"loader": foreign, "own": True}, "load the same samples; give the loader a DistributedSampler"),
            ({"loader": ours, "own": True}, "shares out its samples itself"),
            ({"loader": uneven, "own": True}, "the processes differ: here a batch has"),
            ({"loader": sampled, "own": True, "accumulate": 4}, "make no 4 equal parts"),
        ):
            with pytest.raises(ConfigError, match=words):
                train(tmp_path / words, **options)

    assert [0, 0] == gang(2, work)


# ---------------------------------------------------------------------- what is refused


def test_what_several_processes_cannot_have_is_refused(tmp_path):
    """With a way out."""

    def work(rank):
        with pytest.raises(ConfigError, match="asynchronous does not go with the 2 processes"):
            TrainingManager(tmp_path, "net", asynchronous=True)
        manager = TrainingManager(tmp_path, "net", precision="fp16")
        model = Net()
        with pytest.raises(ConfigError, match="take 'bf16'"):
            manager.shard(model)
        with pytest.raises(ConfigurationError, match="name its strategy, as save_strategy='adaptive'"):
            manager.setup_checkpointing({"manager_type": "auto"})
        with pytest.raises(ConfigurationError, match="in_flight: no such option where 2 processes save"):
            manager.setup_checkpointing({"in_flight": 2})
        with pytest.raises(ConfigError, match="cannot add up what several processes hold"):
            manager.setup_loss_function({"type": "lovasz", "batch": True})
        manager.setup_loss_function({"type": "bce"})
        manager.setup_checkpointing({"save_strategy": "epoch"})
        batch = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        with pytest.raises(ConfigError, match="hand over its module"):
            manager.train_step(wrapped, batch, optimizer)
        with pytest.raises(ConfigError, match=r"are the batches of manager.batches\(loader\)"):
            manager.train_step(model, batch, optimizer)
        other = TrainingManager(tmp_path, "other")
        other.setup_loss_function({"type": "bce"})
        other.setup_checkpointing({"save_strategy": "epoch"})
        with pytest.raises(ConfigError, match="was made before the model was sharded"):
            other.train_step(other.shard(Net()), batch, optimizer)

    assert [0, 0] == gang(2, work)
