"""The second process that writes: what it knows, how it ends, and what its death means."""

import gc
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlc_core import CheckpointManager, CheckpointWarning, ConfigurationError, StorageError, open_checkpoint
from mlc_core.retention import KeepAll

SCRIPTS = Path(__file__).parent / "scripts"
LONG = 60  # seconds; nobody waits for them unless something hangs

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there is no memory to share here")


def manage(place, **options):
    """Open a manager that keeps everything and writes from another process."""
    return CheckpointManager(place, "unet", **{"retention": KeepAll(), "background": "process", **options})


def names(manager):
    """Return the names of what is there, in order of commit."""
    return [one.name for one in manager.list_checkpoints()]


def save(manager, epoch, size=100_000):
    """Save *size* bytes that no other epoch has, and wait until they are durable."""
    manager.async_save_checkpoint(items={"a": bytes([epoch]) * size}, epoch=epoch)
    manager.wait()


def writer_of(manager):
    """Return the number of the process that writes for *manager*."""
    return manager._background._write.__self__._process.pid


def quiet(manager):
    """Wait until nothing is under way, without asking what went wrong."""
    end = time.monotonic() + LONG
    while manager._background.under_way:
        assert time.monotonic() < end
        time.sleep(0.001)


def fail(manager, epoch, *, kill=None):
    """Save in the background what cannot be saved, because of what was done before or because of a *kill*."""
    manager.async_save_checkpoint(items={"a": b"x"}, epoch=epoch)
    if kill is not None:
        os.kill(kill, signal.SIGKILL)
    quiet(manager)


def images_of(process):
    """Return how many staged states *process* has mapped."""
    return Path(f"/proc/{process}/maps").read_text().count("memfd:mlc-staged")


def is_there(process):
    """Say whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


# ---------------------------------------------------------------------- what it is


def test_it_is_started_once_and_ends_with_the_manager(tmp_path):
    """With the first save in the background, and not before."""
    manager = manage(tmp_path)
    assert manager._background._write.__self__._process is None
    save(manager, 1)
    writer = writer_of(manager)
    save(manager, 2)

    assert writer == writer_of(manager)
    assert os.getpid() != writer
    manager.close()
    assert not is_there(writer)


def test_it_never_imports_torch(tmp_path):
    """Nor NumPy: it gets memory and a name, and needs no more to write what they hold."""
    torch = pytest.importorskip("torch")
    with manage(tmp_path) as manager:
        model = torch.nn.Linear(300, 300)
        path = manager.async_save_checkpoint(model, epoch=1).durable.result(LONG)
        loaded = Path(f"/proc/{writer_of(manager)}/maps").read_text()

    assert not re.search("torch|numpy", loaded)
    assert "xxhash" in loaded
    assert torch.equal(model.weight, open_checkpoint(path).load()["model"]["weight"])


def test_signals_of_the_terminal_do_not_reach_it(tmp_path):
    """It has a session of its own."""
    with manage(tmp_path) as manager:
        save(manager, 1)
        assert os.getsid(0) != os.getsid(writer_of(manager)) == writer_of(manager)


@pytest.mark.parametrize("name", ["a b", "gründe", "50%", "#1?"])
def test_directories_may_be_called_anything(tmp_path, name):
    """The other process finds them."""
    with manage(tmp_path / name) as manager:
        save(manager, 1)
    assert {"a": b"\1" * 100_000} == open_checkpoint(tmp_path / name / "unet" / "epoch_1").load()


def test_directory_may_be_relative(tmp_path, monkeypatch):
    """And the process may go elsewhere meanwhile."""
    monkeypatch.chdir(tmp_path)
    manager = manage("runs")
    save(manager, 1)
    manager.close()

    open_checkpoint(tmp_path / "runs" / "unet" / "epoch_1").verify()


def test_storage_of_one_process_is_refused(memory_url):
    """Nobody else can write to it."""
    with pytest.raises(ConfigurationError, match="cannot be written to by a second process here"):
        manage(memory_url)


# ---------------------------------------------------------------------- its death


@pytest.mark.parametrize("busy", [True, False])
def test_its_death_is_told_and_the_next_save_starts_another(tmp_path, busy):
    """In the middle of a save or between two: one checkpoint is not saved, and no more than that."""
    manager = manage(tmp_path)
    save(manager, 1)
    writer = writer_of(manager)
    os.kill(writer, signal.SIGSTOP if busy else signal.SIGKILL)
    with pytest.warns(CheckpointWarning, match=r"the process that wrote state\.json died \(exit status -9\)"):
        fail(manager, 2, kill=writer if busy else None)
    with pytest.raises(StorageError, match="the next save starts another"):
        manager.due(epoch=3)
    save(manager, 3)

    assert writer != writer_of(manager)
    assert ["epoch_1", "epoch_3"] == names(manager)
    assert [] == list((tmp_path / "unet" / ".mlc" / "staging").iterdir())
    manager.close()


def test_its_death_does_not_disturb_a_save_that_waits(tmp_path):
    """Which is written by the process that asks for it."""
    manager = manage(tmp_path)
    save(manager, 1)
    os.kill(writer_of(manager), signal.SIGKILL)
    manager.save_checkpoint(items={"a": 2}, epoch=2)
    manager.close()

    assert ["epoch_1", "epoch_2"] == names(manager)


def test_its_errors_are_ours(tmp_path, monkeypatch):
    """Typed, with the text that it would have here."""
    manager = manage(tmp_path)
    save(manager, 1)
    with monkeypatch.context() as patched:
        patched.setattr("mlc_core.storage.local.LocalStaging.token", "gone")
        with pytest.warns(CheckpointWarning, match="gone is not there"):
            fail(manager, 2)
    writer = writer_of(manager)
    with pytest.raises(StorageError, match="gone is not there"):
        manager.wait()
    save(manager, 3)

    assert writer == writer_of(manager)
    manager.close()


def test_it_does_not_outlive_the_training(tmp_path):
    """Which may be killed at any moment: nobody asks any more, and what is there is whole."""
    command = [sys.executable, SCRIPTS / "async_killed.py", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        writer = int(process.stdout.readline())
        process.kill()
    end = time.monotonic() + LONG
    while is_there(writer):
        assert time.monotonic() < end
        time.sleep(0.01)

    for one in CheckpointManager(tmp_path, "unet").list_checkpoints():
        open_checkpoint(tmp_path / "unet" / one.name).verify()


# ---------------------------------------------------------------------- what is left of it


def test_memory_of_smaller_states_is_given_back(tmp_path):
    """Here and there there is one image for each save that may be under way, however often the state grew."""
    gc.collect()
    before = images_of("self")
    with manage(tmp_path, in_flight=2) as manager:
        for epoch in range(10):
            save(manager, epoch, 100_000 * (epoch + 1))
        here, there = images_of("self"), images_of(writer_of(manager))

        assert (2, 2) == (here - before, there)
        for epoch in range(10):
            assert 100_000 * (epoch + 1) == len(manager.load_checkpoint(f"epoch_{epoch}").state["a"])


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("failed", [True, False])
def test_nothing_is_left_of_a_manager_that_is_gone(tmp_path, closed, failed):
    """No process, no descriptor and no memory; closed or only forgotten."""
    save_one(tmp_path / "warm up")
    gc.collect()
    before, images = set(Path("/proc/self/fd").iterdir()), images_of("self")
    manager = manage(tmp_path)
    save(manager, 1)
    writer = writer_of(manager)
    if failed:
        os.kill(writer, signal.SIGKILL)
        with pytest.warns(CheckpointWarning):
            fail(manager, 2)
        with pytest.raises(StorageError):
            manager.wait()
    if closed:
        manager.close()
    del manager
    gc.collect()

    assert before == set(Path("/proc/self/fd").iterdir())
    assert images == images_of("self")
    assert not is_there(writer)


def test_memory_is_given_back_when_the_manager_is_closed(tmp_path):
    """Whoever keeps it to look at checkpoints need not pay for a state."""
    gc.collect()
    before = images_of("self")
    manager = manage(tmp_path, in_flight=2)
    for epoch in range(3):
        save(manager, epoch)
    manager.close()
    gc.collect()

    assert before == images_of("self")
    assert 3 == len(manager.list_checkpoints())


def save_one(place):
    """Save once, so that everything that is kept for ever is there."""
    with manage(place) as manager:
        save(manager, 1)


@pytest.mark.parametrize(("what", "said"), [("process", "closed"), ("close", "epoch_1 epoch_2 epoch_3")])
def test_forked_processes_are_not_in_its_way(tmp_path, what, said):
    """One that lives on does not keep it alive, and one that closes what it inherited does not end it."""
    command = [sys.executable, SCRIPTS / "async_fork.py", what, tmp_path]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LONG)

    assert (said, "") == (done.stdout.strip(), done.stderr)
