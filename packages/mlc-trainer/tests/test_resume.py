"""Killed anywhere, resumed, and equal to the bit."""

import functools
import json
import os
import random
import signal
import time
import traceback

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc_core import CheckpointWarning, open_checkpoint
from mlc_hooks.cli import main
from mlc_trainer import ExperimentManager, RunBusyError, from_data, read_journal
from mlc_trainer.assembly import make_data, make_training_batches

EXAMPLES = settings.default.max_examples
STEPS = 12  # more than the longest set-up has is no harm
FREQUENT = {"save_strategy": "interval", "strategy_options": {"every": 2, "unit": "steps"}}

losses = st.sampled_from(
    [
        {"preset": "default_segmentation"},
        {"preset": "focal_segmentation", "config": {"mode": "multilabel"}},
        {"preset": "jaccard_based", "config": {"dice_weight": 0.5}},
        {"config": {"type": "bce"}},
        {"preset": "default_segmentation", "config": {"scheduler": {"type": "adaptive"}}},
        {"preset": "default_segmentation", "config": {"scheduler": {"type": "adaptive", "params": {"method": "dwa"}}}},
        {
            "preset": "balanced_segmentation",
            "config": {"scheduler": {"type": "adaptive", "params": {"method": "uncertainty"}}},
        },
    ]
)
optimizers = st.sampled_from(
    [
        {"name": "SGD", "options": {"lr": 0.05, "momentum": 0.9}},
        {"name": "AdamW", "options": {"lr": 1e-2}},
        {"name": "Adam", "options": {"lr": 1e-2, "amsgrad": True}},
    ]
)
schedulers = st.sampled_from(
    [
        None,
        {"name": "OneCycleLR", "options": {"max_lr": 0.05}},
        {"name": "CosineAnnealingLR", "every": "epoch"},
        {"name": "StepLR", "options": {"step_size": 2}},
        {"name": "CosineAnnealingLR", "warmup": 2},
        {"name": "ReduceLROnPlateau", "every": "epoch", "monitor": "val_loss", "options": {"patience": 0}},
    ]
)
strategies = st.sampled_from(
    [
        {"save_strategy": "epoch"},
        {"save_strategy": "best", "monitor_metric": "val_dice", "mode": "max"},
        *({"save_strategy": "interval", "strategy_options": {"every": n, "unit": "steps"}} for n in (1, 2, 3, 5)),
    ]
)
checkpoints = st.builds(lambda table, later: {**table, "asynchronous": later}, strategies, st.booleans())


@st.composite
def set_ups(draw, workers=0):
    """Draw a configuration, as JSON, with so many workers at most."""
    loss = draw(losses)
    channels = 2 if loss.get("config", {}).get("mode") == "multilabel" else 1
    dropout = draw(st.sampled_from([0.0, 0.4]))
    data = {
        "factory": "tiny:Blobs",
        "options": {"length": draw(st.integers(9, 12)), "channels": channels},
        "batch_size": draw(st.integers(3, 5)),
        "workers": draw(st.integers(min(1, workers), workers)),
        "shuffle": draw(st.booleans()),
        "drop_last": draw(st.booleans()),
    }
    classes = ["one", "two"][:channels]
    return json.dumps(
        {
            "model": {"factory": "tiny:Net", "options": {"channels": channels, "dropout": dropout}},
            "data": data,
            "loss": loss,
            "optimizer": draw(optimizers),
            "scheduler": draw(schedulers),
            "metrics": {"factory": "mlc_trainer.metrics:DiceScore", "options": {"classes": classes}},
            "checkpoints": draw(checkpoints),
            "training": {
                "num_epochs": 3,
                "seed": draw(st.integers(0, 2**64)),
                "device": "cpu",
                "clip_norm": draw(st.sampled_from([None, 0.1])),
                "log_every": draw(st.integers(1, 4)),
                "precision": draw(st.sampled_from(["fp32", "fp32", "bf16", "fp16"])),
                "accumulate": draw(st.sampled_from([1, 1, 2])),
                **draw(st.sampled_from([{}, {"ema_decay": 0.8}, {"swa_start": 2}])),
                "fused": draw(st.sampled_from(["auto", True])),
                "gradient_checkpointing": draw(st.booleans()),
                "channels_last": draw(st.booleans()),
                "on_nonfinite": draw(st.sampled_from(["stop", "skip", "rollback"])),
                "save_on_error": draw(st.booleans()),
            },
            "early_stopping": draw(st.sampled_from([None, {"patience": 1}])),
        }
    )


moments = st.sampled_from(["step_ended", "epoch_ended", "checkpoint_saved", "step_logged"])
deaths = st.lists(st.tuples(st.integers(1, STEPS), moments), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a new directory each time: an example of hypothesis gets no fixture of its own."""
    return lambda: tmp_path_factory.mktemp("run") / "run"


@pytest.fixture(scope="module")
def undisturbed(place, bits, unpack):
    """Return what a configuration comes to if nothing happens: on disk, and in memory."""

    @functools.cache
    def train(text):
        experiment = ExperimentManager(from_data(json.loads(text)), place())
        experiment.run()
        return bits(experiment.directory.path), unpack(state_of(experiment))

    return train


def state_of(experiment):
    """Return everything in memory that a further step depends on."""
    engine = experiment.engine
    scheduler = engine.rate.scheduler.state_dict() if engine.rate else {}
    parts = (
        engine.model.state_dict(),
        engine.optimizer.state_dict(),
        *(one.state_dict() for one in engine.parts.values()),
    )
    return [*parts, scheduler]


def go_on(config, run_dir, *observers):
    """Resume, or train where there is nothing to resume; return the experiment too."""
    there = any(run_dir.glob("checkpoints/*/epoch_*/manifest.json"))
    experiment = (
        ExperimentManager.from_run(run_dir, observers=observers)
        if there
        else ExperimentManager(config, run_dir, observers=observers)
    )
    experiment.resume_training() if there else experiment.run()
    return experiment


def check(text, kills, *, place, killer, killed, undisturbed, bits, unpack):
    """Train, die as often as *kills* says, and compare."""
    config, run_dir = from_data(json.loads(text)), place()
    for step, moment in sorted(kills):
        try:
            go_on(config, run_dir, killer(step, moment))
        except killed:
            continue
    experiment = go_on(config, run_dir)
    on_disk, in_memory = undisturbed(text)

    assert on_disk == bits(run_dir)
    found = unpack(state_of(experiment))
    assert in_memory.keys() == found.keys()
    assert [] == [name for name, one in in_memory.items() if not torch.equal(one, found[name])]


@settings(deadline=None, max_examples=max(20, EXAMPLES // 3))
@given(text=set_ups(), kills=deaths)
def test_killed_anywhere_and_resumed_is_equal_to_the_bit(text, kills, place, killer, killed, undisturbed, bits, unpack):
    """Whatever is trained, and wherever it dies, once or more often: weights, states and metrics are the same."""
    check(text, kills, place=place, killer=killer, killed=killed, undisturbed=undisturbed, bits=bits, unpack=unpack)


@settings(deadline=None, max_examples=max(5, EXAMPLES // 10))
@given(text=set_ups(workers=2), kills=deaths)
def test_so_it_is_with_workers(text, kills, place, killer, killed, undisturbed, bits, unpack):
    """Batches that other processes had prefetched when the run died are not lost and not seen twice."""
    check(text, kills, place=place, killer=killer, killed=killed, undisturbed=undisturbed, bits=bits, unpack=unpack)


# ---------------------------------------------------------------------- real deaths


def die_in_sync(config, run_dir, number):
    """Train in this process, and be no more at the *number*-th time that something is made durable."""
    left, fsync = number, os.fsync

    def count(descriptor):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    os.fsync = count
    go_on(config, run_dir)  # and live on if it writes less often than that


def fork(function, *arguments):
    """Run it in a process that is forked, because importing torch anew takes seconds, and return its id."""
    child = os.fork()
    if not child:
        code = 1
        try:
            function(*arguments)
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def in_a_child(function, *arguments):
    """Run it in a process of its own and return the exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(function, *arguments), 0)[1])


@settings(deadline=None, max_examples=max(10, EXAMPLES // 4))
@given(numbers=st.lists(st.integers(1, 60), min_size=1, max_size=2), later=st.booleans())
def test_sigkill_while_something_is_written(numbers, later, place, plain, undisturbed, bits):
    """In the middle of a checkpoint, of the journal, of the configuration: what is half written counts for nothing."""
    text = json.dumps(plain(checkpoints={**FREQUENT, "asynchronous": later}))
    config, run_dir = from_data(json.loads(text)), place()
    for number in numbers:
        assert in_a_child(die_in_sync, config, run_dir, number) in {0, -signal.SIGKILL}
    go_on(config, run_dir)

    assert undisturbed(text)[0] == bits(run_dir)


@attrs.define
class Suicide:
    """Kills its process for real."""

    step: int

    def step_ended(self, position):
        """Do it when it is time."""
        if position.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def run_started(self, run, position):
        """Do nothing."""

    step_logged = epoch_ended = rolled_back = checkpoint_saved = run_ended = run_started


def test_workers_that_outlive_a_killed_run_do_not_keep_it_busy(plain, place, undisturbed, bits):
    """The run can be resumed at once, while they still notice that their parent is gone."""
    text = json.dumps(plain(data={"workers": 2}))
    config, run_dir = from_data(json.loads(text)), place()

    def train():
        ExperimentManager(config, run_dir, observers=[Suicide(5)]).run()

    assert -signal.SIGKILL == in_a_child(train)
    go_on(config, run_dir)

    assert undisturbed(text)[0] == bits(run_dir)


LONG = {"training": {"num_epochs": 8, "log_every": 1}, "checkpoints": FREQUENT}


def wait_for(event, step, run_dir, *, alive):
    """Return when the journal tells of *event* at *step* or later."""
    deadline = time.monotonic() + 60
    while not any(one["event"] == event and one["step"] >= step for one in read_journal(run_dir / "metrics.jsonl")):
        assert alive()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_commands_killed_at_whatever_moment_comes(tmp_path, config_file, bits, plain, undisturbed):
    """`mlc train`, killed; `mlc resume`, killed, twice; `mlc resume`: the same bits as an undisturbed run."""
    run_dir = tmp_path / "run"

    def command():
        resumes = any(run_dir.glob("checkpoints/model/epoch_*/manifest.json"))
        words = ("resume", run_dir) if resumes else ("train", config_file(**LONG), "--run-dir", run_dir)
        main([str(word) for word in words])

    for event, step in (("step", 1), ("checkpoint", 4), ("epoch", 9)):
        child = fork(command)
        wait_for(event, step, run_dir, alive=lambda child=child: os.waitpid(child, os.WNOHANG) == (0, 0))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert 0 == in_a_child(command)

    assert undisturbed(json.dumps(plain(**LONG)))[0] == bits(run_dir)


@pytest.mark.slow
def test_a_process_that_is_stopped_keeps_its_run_until_it_is_killed(
    tmp_path, config_file, configure, start, bits, plain, undisturbed
):
    """The command as users start it, where the model's module lies in the current directory."""
    run_dir = tmp_path / "run"
    with start("train", config_file(**LONG), "--run-dir", run_dir) as child:
        wait_for("checkpoint", 2, run_dir, alive=lambda: child.poll() is None)
        child.send_signal(signal.SIGSTOP)
        with pytest.raises(RunBusyError, match=f"another process is training in {run_dir}"):
            ExperimentManager(configure(**LONG), run_dir).resume_training()
        child.kill()
    ExperimentManager(configure(**LONG), run_dir).resume_training()

    assert undisturbed(json.dumps(plain(**LONG)))[0] == bits(run_dir)


# ---------------------------------------------------------------------- what may change, and what may not


@pytest.mark.parametrize(("before", "after"), [(2, 0), (0, 3)])
def test_number_of_workers_may_change(before, after, place, plain, killer, killed, undisturbed, bits):
    """Where a batch is loaded is nothing that it depends on; not even a warning is due."""
    text = json.dumps(plain(checkpoints=FREQUENT))
    run_dir = place()
    first = json.loads(text)
    first["data"]["workers"] = before
    with pytest.raises(killed):
        ExperimentManager(from_data(first), run_dir, observers=[killer(5)]).run()
    first["data"]["workers"] = after
    ExperimentManager(from_data(first), run_dir).resume_training()
    expected, found = undisturbed(text)[0], bits(run_dir)

    tensors = [{name: one for name, one in side[0].items() if name != "state.json"} for side in (expected, found)]
    assert tensors[0] == tensors[1]
    assert expected[1:] == found[1:]
    state = [open_checkpoint(run_dir / "checkpoints/model/final").load()["experiment"]["data"]["workers"]]
    assert [after] == state


def test_logging_changes_no_bit(place, plain, undisturbed, bits):
    """How often something is written down is nothing that training depends on."""
    every, never = (json.dumps(plain(training={"log_every": often})) for often in (1, 1000))
    (left, *_), (right, *_) = undisturbed(every)[0], undisturbed(never)[0]

    assert left["model.safetensors"] == right["model.safetensors"]
    assert left["optimizer.safetensors"] == right["optimizer.safetensors"]


def test_how_often_is_measured_changes_no_bit(place, plain, configure, undisturbed, watcher, bits):
    """Validation moves no generator, counts in no batch normalisation, and leaves the model training."""
    run_dir = place()
    nosy = watcher(step_ended=lambda position: experiment.evaluate())
    experiment = ExperimentManager(configure(), run_dir, observers=[nosy])
    experiment.run()

    assert undisturbed(json.dumps(plain()))[0] == bits(run_dir)


def test_observers_may_draw_at_random(place, plain, configure, undisturbed, watcher, bits):
    """What somebody else draws from the global generators changes nothing, not even what is measured."""

    def draw(*_):
        torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002 - the global one

    run_dir = place()
    moments = ("run_started", "step_ended", "step_logged", "epoch_ended", "checkpoint_saved")
    experiment = ExperimentManager(configure(), run_dir, observers=[watcher(**dict.fromkeys(moments, draw))])
    experiment.run()

    assert undisturbed(json.dumps(plain()))[0] == bits(run_dir)


def test_model_that_draws_when_it_is_measured_gives_the_same_numbers(place, plain, configure, watcher, bits):
    """With any number of workers, and whoever else draws."""
    tables = {"model": {"factory": "tiny:Restless"}}
    one, other = place(), place()
    ExperimentManager(configure(**tables), one).run()
    draw = watcher(epoch_ended=lambda *_: torch.rand(1), step_ended=lambda *_: torch.rand(1))
    ExperimentManager(configure(**tables, data={"workers": 1}), other, observers=[draw]).run()

    assert bits(one)[1:] == bits(other)[1:]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_experiment_goes_on_after_an_interrupt(workers, place, plain, undisturbed, watcher, bits):
    """In a notebook one interrupts and resumes with the object at hand; its loaders were in the middle of something."""
    text = json.dumps(plain(data={"workers": workers}))
    armed = [True]

    def interrupt(position):
        if position.step == 5 and armed.pop():
            raise KeyboardInterrupt

    run_dir = place()
    experiment = ExperimentManager(from_data(json.loads(text)), run_dir, observers=[watcher(step_ended=interrupt)])
    with pytest.raises(KeyboardInterrupt):
        experiment.run()
    armed.append(False)
    experiment.resume_training()

    assert undisturbed(text)[0] == bits(run_dir)


def test_corrupt_latest_is_passed_over_and_trained_again(place, plain, configure, killer, killed, undisturbed, bits):
    """From the newest valid checkpoint, with a warning, to the same bits."""
    text = json.dumps(plain(checkpoints=FREQUENT))
    run_dir = place()
    with pytest.raises(killed):
        ExperimentManager(from_data(json.loads(text)), run_dir, observers=[killer(6)]).run()
    file = run_dir / "checkpoints/model/latest/model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.warns(CheckpointWarning, match="its digest does not match"):
        ExperimentManager.from_run(run_dir).resume_training()

    assert undisturbed(text)[0] == bits(run_dir)


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    length=st.integers(1, 30),
    size=st.integers(1, 7),
    epoch=st.integers(0, 4),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    first=st.data(),
)
def test_an_epoch_that_was_resumed_is_whole(length, size, epoch, shuffle, drop_last, first, configure):
    """What came before the kill and what comes after it is the epoch, each batch once."""
    if drop_last and length < size:
        length = size
    table = {"batch_size": size, "shuffle": shuffle, "drop_last": drop_last, "options": {"length": length}}
    config = configure(data={"factory": "tiny:Blobs", **table}).data
    batches = make_training_batches(config, make_data(config), seed=1, device=torch.device("cpu"))
    cut = first.draw(st.integers(0, len(batches)))
    whole = [one for one, _ in batches.epoch(epoch)]
    before = [one for (one, _), _ in zip(batches.epoch(epoch), range(cut), strict=False)]
    parts = [*before, *(one for one, _ in batches.epoch(epoch, first=cut))]

    assert len(whole) == len(batches)
    assert all(torch.equal(*pair) for pair in zip(whole, parts, strict=True))
    assert length - (length % size if drop_last else 0) == sum(map(len, whole))
