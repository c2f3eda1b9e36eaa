"""Loaders that hang."""

import logging
import os
import re
import signal
import threading

import pytest
import torch
from tiny import Images, Net, Slow
from torch.utils.data import DataLoader

from mlc_core import open_checkpoint
from mlc_trainer import ConfigError, ExperimentManager, LoaderStuckError, quick_training_setup
from mlc_trainer.data.watchdog import SIGNAL, Watchdog

LONG = 600


def stuck(*, where="training", seconds=LONG, workers=0, timeout=2.0, on_stuck="stop"):
    """Return the table of data of which one image takes *seconds*: in the second batch, or the first to validate."""
    options = {"seconds": seconds, "where": where}
    table = {"factory": "tiny:Stuck", "options": options, "batch_size": 4, "shuffle": False, "workers": workers}
    return {**table, "timeout": timeout, "on_stuck": on_stuck}


@pytest.fixture
def run_dir(tmp_path):
    """Where the run lies."""
    return tmp_path / "run"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("where", "batch"), [("training", 1), ("validation", 0)])
def test_loader_that_hangs_can_end_the_run(where, batch, workers, configure, run_dir, caplog):
    """With an error that names loader, epoch and batch; where everything stood is in the log."""
    config, before = configure(data=stuck(where=where, workers=workers)), set(threading.enumerate())
    with pytest.raises(
        LoaderStuckError, match=f"batch {batch} of epoch 1 of the {where} loader has not come"
    ) as caught:
        ExperimentManager(config, run_dir).run()
    (told,) = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]

    assert (where, 0, batch) == (caught.value.loader, caught.value.epoch, caught.value.batch)
    assert "The thread that waits is at:" in told
    assert ("__getitem__" in told) == (not workers)
    if workers:
        process = int(re.search(r"by process id: (\d+) \(alive\)", told)[1])
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert signal.SIG_DFL == signal.getsignal(SIGNAL)
    assert not any("watchdog" in one.name for one in set(threading.enumerate()) - before)


def test_what_was_trained_can_be_saved_and_gone_on_from(configure, run_dir, tmp_path, bits):
    """Between two steps nothing is half done: with `save_on_error`, a run that was stopped loses no step."""
    tables = {"training": {"save_on_error": True, "num_epochs": 1}}
    with pytest.raises(LoaderStuckError):
        ExperimentManager(configure(data=stuck(), **tables), run_dir).run()
    assert 1 == open_checkpoint(run_dir / "checkpoints/model/latest").saved.step
    healthy = configure(data=stuck(seconds=0), **tables)
    with pytest.warns(UserWarning, match="data.options.seconds was 600, is 0"):
        ExperimentManager(healthy, run_dir).resume_training()
    ExperimentManager(healthy, tmp_path / "whole").run()

    assert bits(tmp_path / "whole")[0]["model.safetensors"] == bits(run_dir)[0]["model.safetensors"]


@pytest.mark.parametrize("timeout", [0.3, 0])
def test_loader_that_is_slow_is_told_and_waited_for(timeout, configure, run_dir, caplog):
    """Unless nothing is watched; no bit depends on it."""
    table = stuck(seconds=1.5, timeout=timeout, on_stuck="report")
    ExperimentManager(configure(data=table, training={"num_epochs": 1}), run_dir).run()

    assert ("batch 1 of epoch 1 of the training loader has not come for" in caplog.text) == bool(timeout)
    assert ("batch 1 of epoch 1 of the training loader came, after" in caplog.text) == bool(timeout)


@pytest.mark.parametrize("workers", [0, 1])
def test_loop_of_ones_own_with_any_loader(workers, tmp_path):
    """Batches that are only loaded to get past them count by themselves; validation is watched as well."""
    slow = Slow(Images(length=12, channels=1, first=0), LONG, 5)
    manager = quick_training_setup(tmp_path, "net", loader_timeout=2.0, on_stuck="stop")
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = manager.batches(DataLoader(slow, batch_size=4, num_workers=workers))
    manager.train_step(model, next(batches), optimizer)
    with pytest.raises(LoaderStuckError, match="batch 1 of epoch 1 of the training loader"):
        next(batches)
    with pytest.raises(LoaderStuckError, match="batch 1 of epoch 1 of the validation loader"):
        manager.validation_step(model, DataLoader(slow, batch_size=4))

    assert 1 == manager.position.step


def test_other_threads_are_reported_and_not_interrupted(caplog):
    """Only the main thread can be; training elsewhere goes on when the batch comes."""
    go, found = threading.Event(), []

    def batches():
        yield 1
        go.wait(60)
        yield 2

    def train():
        dog = Watchdog(timeout=0.1, on_stuck="stop")
        found.extend(dog.watch(batches(), loader="training", epoch=2, first=7))

    thread = threading.Thread(target=train)
    thread.start()
    while "batch 8 of epoch 3 of the training loader has not come" not in caplog.text:
        assert thread.is_alive()
    go.set()
    thread.join()

    assert [1, 2] == found


@pytest.mark.parametrize("first", [0, 1])
def test_watches_may_end_in_any_order(first):
    """No handler is left behind, and the one that goes on can still be interrupted."""
    go = threading.Event()

    def batches():
        yield 1
        go.wait(60)

    open_ones = [Watchdog(timeout=0.3, on_stuck="stop").watch(batches(), loader="x", epoch=0) for _ in range(2)]
    for one in open_ones:
        next(one)
    open_ones.pop(first).close()
    with pytest.raises(LoaderStuckError, match="batch 1 of epoch 1 of the x loader"):
        next(open_ones[0])

    assert signal.SIG_DFL == signal.getsignal(SIGNAL)


def test_watch_may_end_in_another_thread():
    """What is left then does nothing, and goes with the next signal or watch."""
    before, caught = signal.getsignal(SIGNAL), []
    dog = Watchdog(timeout=60, on_stuck="stop")
    one = dog.watch(iter([1, 2]), loader="x", epoch=0)
    next(one)

    def end():
        try:
            one.close()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    os.kill(os.getpid(), SIGNAL)

    assert [] == caught
    assert before == signal.getsignal(SIGNAL)
    assert [1, 2] == list(dog.watch(iter([1, 2]), loader="x", epoch=0))
    assert before == signal.getsignal(SIGNAL)


def test_worker_that_died_is_told(caplog):
    """With its exit status."""

    class Dead:
        _workers = ()

        def __iter__(self):
            return self

        def __next__(self):
            go.wait(60)
            raise StopIteration

    go, batches, child = threading.Event(), Dead(), os.fork()
    if not child:
        os._exit(3)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    batches._workers = (type("Process", (), {"pid": child}),)
    thread = threading.Thread(target=list, args=[Watchdog(timeout=0.1).watch(batches, loader="x", epoch=0)])
    thread.start()
    while "has not come" not in caplog.text:
        assert thread.is_alive()
    go.set()
    thread.join()
    os.waitpid(child, 0)

    assert f"{child} (dead, exit status 3)" in caplog.text


def test_settings_that_cannot_be_followed(configure, tmp_path):
    """By configuration, and by argument."""
    with pytest.raises(ConfigError, match="on_stuck = 'wait' must be 'report' or 'stop'"):
        configure(data={"on_stuck": "wait"})
    with pytest.raises(ConfigError, match="timeout = -1 must be 0 or more"):
        quick_training_setup(tmp_path, "net", loader_timeout=-1)
