"""Saves that do not wait for the disk: what is loaded is what was, in order, and nothing is lost on the way."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc_core import (
    CheckpointManager,
    CheckpointWarning,
    ConfigurationError,
    DiskFullError,
    StorageError,
    open_checkpoint,
)
from mlc_core.image import Image
from mlc_core.retention import KeepAll
from mlc_core.storage import LocalStorage
from mlc_core.storage.removal import wait_until_deleted

SCRIPTS = Path(__file__).parent / "scripts"
WAYS = ["thread", "process"]
LONG = 60  # seconds; nobody waits for them unless something hangs


def manage(place, **options):
    """Open a manager that keeps everything."""
    return CheckpointManager(place, "unet", **{"retention": KeepAll(), **options})


def names(manager):
    """Return the names of what is there, in order of commit."""
    return [one.name for one in manager.list_checkpoints()]


class Disk:
    """A disk that takes nothing until it is let go, or answers with an error."""

    def __init__(self):
        self.go, self.asked, self.error = threading.Event(), threading.Semaphore(0), None
        self.real = LocalStorage.stage

    def stage(self, storage, size):
        """Wait, fail, or do it."""
        self.asked.release()
        assert self.go.wait(LONG)
        if self.error is not None:
            raise self.error
        return self.real(storage, size)


@pytest.fixture
def disk(monkeypatch):
    """A disk that takes nothing until `go` is set."""
    found = Disk()
    monkeypatch.setattr(LocalStorage, "stage", lambda storage, size: found.stage(storage, size))
    yield found
    found.go.set()


@pytest.fixture(params=WAYS)
def manager(request, tmp_path):
    """A manager that saves in the background, in either way."""
    found = manage(tmp_path, background=request.param)
    yield found
    try:
        found.close()
    except StorageError:
        found.close()


def fail(manager, epochs=(1,), disk=None, **moment):
    """Save in the background what cannot be saved, and return what that became."""
    for epoch in epochs:
        saving = manager.async_save_checkpoint(items={"a": 1}, epoch=epoch, **moment)
    if disk is not None:
        disk.go.set()
    quiet(manager)
    return saving


def quiet(manager):
    """Wait until nothing is under way, without asking what went wrong."""
    end = time.monotonic() + LONG
    while manager._background.under_way:
        assert time.monotonic() < end
        time.sleep(0.001)


# ---------------------------------------------------------------------- two moments


def test_staged_comes_before_durable(manager, disk):
    """Training may go on long before the disk is ready."""
    saving = manager.async_save_checkpoint(items={"a": [1, 2]}, epoch=1)

    assert (True, False) == (saving.staged.done(), saving.durable.done())
    assert [] == names(manager)
    disk.go.set()
    path = saving.durable.result(LONG)
    assert path == manager.get_latest_checkpoint_path()
    assert {"a": [1, 2]} == open_checkpoint(path).load()


def test_state_is_that_of_the_call(manager, disk):
    """What changes after it is not saved."""
    numbers, array = [1], bytearray(b"before" * 50_000)
    thing = Holder({"numbers": numbers, "array": memoryview_of(array)})
    manager.async_save_checkpoint(thing, epoch=1)
    numbers.append(2)
    array[:] = b"after!" * 50_000
    disk.go.set()
    manager.wait()

    state = manager.load_checkpoint().state["model"]
    assert ([1], b"before" * 50_000) == (state["numbers"], bytes(state["array"]))


class Holder:
    """Something with a state."""

    def __init__(self, state):
        self.state = state

    def state_dict(self):
        """Return it, not a copy."""
        return self.state


def memoryview_of(array):
    """Return an array that shares the memory of *array*."""
    return pytest.importorskip("numpy").frombuffer(array, dtype="u1")


def test_strategy_that_says_no_saves_nothing(tmp_path):
    """The answer is None, as for a save that waits."""
    with manage(tmp_path, save_strategy=lambda _: False) as manager:
        assert manager.async_save_checkpoint(items={"a": 1}, epoch=1) is None
    assert [] == names(manager)


def test_both_moments_can_be_awaited(manager):
    """In asyncio."""

    async def save():
        saving = manager.async_save_checkpoint(items={"a": 1}, epoch=1)
        await asyncio.wrap_future(saving.staged)
        return await asyncio.wrap_future(saving.durable)

    assert asyncio.run(save()) == manager.get_latest_checkpoint_path()


def test_nobody_can_cancel_a_save(manager, disk):
    """Who does not want to wait any longer goes on; the save is finished, and `wait` waits for it."""

    async def save():
        saving = manager.async_save_checkpoint(items={"a": 1}, epoch=1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(saving.durable), 0.01)
        return saving

    saving = asyncio.run(save())
    assert (False, False) == (saving.durable.cancel(), saving.staged.cancel())
    disk.go.set()
    manager.wait()
    assert ["epoch_1"] == names(manager)


def test_wait_ends_when_nothing_is_under_way_any_more(tmp_path):
    """Whoever was told first, and however long that took."""
    with manage(tmp_path) as manager:
        saving = manager.async_save_checkpoint(items={"a": 1}, epoch=1)
        saving.durable.add_done_callback(lambda _: time.sleep(0.1))
        manager.wait()

        assert saving.durable.done()
        assert () == manager._background.under_way


# ---------------------------------------------------------------------- order


@pytest.mark.parametrize("in_flight", [1, 2, 3])
@pytest.mark.parametrize("way", WAYS)
def test_no_more_saves_than_there_is_memory_for(tmp_path, disk, way, in_flight):
    """One more waits until one is durable."""
    with manage(tmp_path, background=way, in_flight=in_flight) as manager:
        for epoch in range(in_flight):
            manager.async_save_checkpoint(items={"a": epoch}, epoch=epoch)
        more = threading.Thread(target=manager.async_save_checkpoint, kwargs={"items": {"a": 9}, "epoch": 9})
        more.start()
        more.join(0.2)
        waited = more.is_alive()
        disk.go.set()
        more.join(LONG)

    assert waited
    assert [*(f"epoch_{epoch}" for epoch in range(in_flight)), "epoch_9"] == names(manager)
    for one in manager.list_checkpoints():
        assert one.epoch == manager.load_checkpoint(one.name).state["a"]


@given(st.lists(st.sampled_from(["async", "sync", "load", "wait"]), max_size=8), st.integers(1, 3))
@settings(max_examples=25)
def test_saves_are_committed_in_the_order_of_the_calls(tmp_path_factory, calls, in_flight):
    """Those that wait after those in the background that came before; and what is loaded is the latest."""
    with manage(tmp_path_factory.mktemp("order"), in_flight=in_flight) as manager:
        saved = []
        for number, call in enumerate(calls):
            if call == "async":
                manager.async_save_checkpoint(items={"a": number}, epoch=number)
            elif call == "sync":
                manager.save_checkpoint(items={"a": number}, epoch=number)
            elif call == "load" and saved:
                assert saved[-1] == manager.load_checkpoint("latest").state["a"]
            else:
                manager.wait()
            saved += [number] * (call in {"async", "sync"})

    assert [f"epoch_{number}" for number in saved] == names(manager)
    assert list(range(1, len(saved) + 1)) == [one.sequence for one in manager.list_checkpoints()]


@pytest.mark.parametrize("way", WAYS)
def test_old_ones_go_after_new_ones_came(tmp_path, listener, way):
    """Each removal follows the commit that made it right, and something valid is always there."""
    seen = []
    listener.look = lambda what, one, storage: seen.append((what, one.epoch, sorted(storage.entries())))
    with manage(tmp_path, background=way, retention=None, max_checkpoints=2, in_flight=2) as manager:
        for epoch in range(5):
            manager.async_save_checkpoint(items={"a": epoch}, epoch=epoch)

    assert ["epoch_3", "epoch_4"] == names(manager)
    assert [("saved", 0), ("saved", 1), ("saved", 2), ("removed", 0), ("saved", 3), ("removed", 1)] == [
        event[:2] for event in seen[:6]
    ]
    assert all(f"epoch_{epoch}" in there for what, epoch, there in seen if what == "saved")
    assert all(there for _, _, there in seen)


def test_strategy_counts_what_is_under_way(tmp_path, disk):
    """`best` does not save what is worse than a better one that is not on the disk yet."""
    options = {"save_strategy": "best", "monitor_metric": "score", "mode": "max", "in_flight": 2}
    with manage(tmp_path, **options) as manager:
        answers = [
            manager.async_save_checkpoint(items={"a": 1}, epoch=epoch, metrics={"score": score}) is not None
            for epoch, score in enumerate([0.5, 0.4, 0.9, 0.8])
        ]
        disk.go.set()

    assert [True, False, True, False] == answers
    assert ["epoch_0", "epoch_2"] == names(manager)


def test_save_that_failed_counts_for_nothing(tmp_path, disk):
    """What would have been worse than it is the best now."""
    disk.error = StorageError("the disk is broken")
    manager = manage(tmp_path, save_strategy="best", monitor_metric="score", mode="max")
    with pytest.warns(CheckpointWarning, match="the disk is broken"):
        fail(manager, disk=disk, metrics={"score": 0.9})
    with pytest.raises(StorageError, match="the disk is broken"):
        manager.due(epoch=2, metrics={"score": 0.5})

    assert "best score so far: 0.5" == manager.due(epoch=2, metrics={"score": 0.5})
    manager.close()


def test_moment_says_whether_a_save_is_under_way(tmp_path, disk):
    """And which one would be the latest."""
    moments = []
    with manage(tmp_path, save_strategy=lambda moment: moments.append(moment) or moment.epoch == 1) as manager:
        manager.async_save_checkpoint(items={"a": 1}, epoch=1)
        manager.due(epoch=2)
        disk.go.set()
        manager.wait()
        manager.due(epoch=3)

    assert [False, True, False] == [one.saving for one in moments]
    assert [None, 1, 1] == [one.latest and one.latest.epoch for one in moments]
    assert [None, "under way", "epoch_1"] == [one.latest and one.latest.name for one in moments]
    assert moments[1].save_seconds is not None


# ---------------------------------------------------------------------- what goes wrong

ASKING = {
    "due": lambda manager: manager.due(epoch=2),
    "save": lambda manager: manager.save_checkpoint(items={"a": 2}, epoch=2),
    "async": lambda manager: manager.async_save_checkpoint(items={"a": 2}, epoch=2),
    "wait": lambda manager: manager.wait(),
    "close": lambda manager: manager.close(),
}


@pytest.mark.parametrize("asking", ASKING)
def test_failure_is_told_at_once_and_raised_at_the_next_moment_once(manager, disk, asking):
    """A warning when it happens, the error when somebody asks, and then the next save works."""
    disk.error = DiskFullError("no room left")
    with pytest.warns(CheckpointWarning, match="could not be saved in the background.*no room left"):
        saving = fail(manager, disk=disk)
    assert "no room left" == str(saving.durable.exception(LONG))
    disk.error = None
    with pytest.raises(DiskFullError, match="no room left"):
        ASKING[asking](manager)
    ASKING[asking](manager) if asking != "close" else manager.close()
    manager.save_checkpoint(items={"a": 3}, epoch=3)

    assert 3 == manager.load_checkpoint("latest").state["a"]
    assert [] == list((manager.storage.location("") / ".mlc" / "staging").iterdir())


def test_every_failure_is_warned_of_and_none_is_raised_for_ever(tmp_path, disk):
    """Two at once are two warnings."""
    disk.error = StorageError("broken")
    manager = manage(tmp_path, in_flight=2)
    with pytest.warns(CheckpointWarning, match="broken") as told:
        fail(manager, (1, 2), disk)
    raised = 0
    for _ in range(5):
        try:
            manager.wait()
        except StorageError:
            raised += 1

    assert 2 == len(told)
    assert 1 <= raised <= 2
    manager.close()


def test_failure_of_any_kind_is_the_callers(tmp_path, monkeypatch):
    """Not only ours: what a plugin raises in the background is raised as it is."""
    with manage(tmp_path) as manager:
        monkeypatch.setattr(LocalStorage, "stage", lambda *_: 1 / 0)
        with pytest.warns(CheckpointWarning, match="division by zero"):
            fail(manager)
        with pytest.raises(ZeroDivisionError):
            manager.wait()
        monkeypatch.undo()
        manager.async_save_checkpoint(items={"a": 2}, epoch=2)
    assert ["epoch_2"] == names(manager)


def test_state_that_cannot_be_staged_is_the_callers_at_once(manager, monkeypatch):
    """It takes no memory away from the next one, and nothing is under way."""
    real, failures = Image.stage, [MemoryError("none left"), KeyboardInterrupt()]

    def fail(*arguments, **options):
        if failures:
            raise failures.pop(0)
        return real(*arguments, **options)

    monkeypatch.setattr(Image, "stage", fail)
    for error in (MemoryError, KeyboardInterrupt):
        with pytest.raises(error):
            manager.async_save_checkpoint(items={"a": 1}, epoch=1)
    assert () == manager._background.under_way
    manager.async_save_checkpoint(items={"a": 2}, epoch=2).durable.result(LONG)
    manager.wait()

    assert ["epoch_2"] == names(manager)


@pytest.mark.parametrize("failing", ["_thread", "_saver"])
def test_save_that_cannot_begin_leaves_nothing_behind(tmp_path, monkeypatch, failing):
    """Neither a save that never ends nor memory that never comes back."""
    manager = manage(tmp_path)
    part, call = getattr(manager._background, failing), {"_thread": "submit", "_saver": "expect"}[failing]

    def refuse(*_, **__):
        msg = "cannot schedule new futures"
        raise RuntimeError(msg)

    with monkeypatch.context() as patched:
        patched.setattr(part, call, refuse)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="cannot schedule"):
                manager.async_save_checkpoint(items={"a": 1}, epoch=1)
    assert () == manager._background.under_way
    manager.async_save_checkpoint(items={"a": 2}, epoch=2)
    manager.close()

    assert ["epoch_2"] == names(manager)


def fill(manager, epoch):
    """Save three megabytes and more in the background."""
    manager.async_save_checkpoint(items={"a": b"x" * (3 << 20)}, epoch=epoch)
    quiet(manager)


@pytest.mark.parametrize("way", WAYS)
def test_really_full_disk(tmp_path, way):
    """Found in the background, told at the next moment; with room again it goes on."""
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a full disk needs root and mount")
    try:
        manager = manage(tmp_path, background=way)
        filler = tmp_path / "filler"
        filler.write_bytes(bytes(5 << 20))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("mlc_core.storage.files.check_room", lambda *_: None)
            with pytest.warns(CheckpointWarning, match="no room left"):
                fill(manager, 1)
        with pytest.raises(DiskFullError, match="free some space"):
            manager.due(epoch=2)
        filler.unlink()
        fill(manager, 2)
        manager.close()
        assert ["epoch_2"] == names(manager)
        open_checkpoint(manager.get_latest_checkpoint_path()).verify()
    finally:
        wait_until_deleted()
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_listener_may_ask_the_manager(tmp_path, listener):
    """In the middle of the save that it hears of."""
    found = []
    manager = manage(tmp_path)
    listener.look = lambda what, *_: what == "saved" and found.append(manager.load_checkpoint("latest").state["a"])
    for epoch in (1, 2):
        manager.async_save_checkpoint(items={"a": epoch}, epoch=epoch)
    manager.close()

    assert [1, 2] == found


def test_listener_may_not_begin_another_save_in_the_background(tmp_path, listener):
    """It would wait for the memory of the save that it hears of; one that waits for the disk is welcome."""
    refused, manager = [], manage(tmp_path)

    def look(what, one, _):
        if what == "saved" and one.epoch == 1:
            try:
                manager.async_save_checkpoint(items={"a": 2}, epoch=2)
            except ConfigurationError as error:
                refused.append(error)
            manager.save_checkpoint(items={"a": 3}, epoch=3)

    listener.look = look
    manager.async_save_checkpoint(items={"a": 1}, epoch=1)
    manager.close()

    assert 1 == len(refused)
    assert ["epoch_1", "epoch_3"] == names(manager)


# ---------------------------------------------------------------------- the end


def test_close_waits_and_may_come_twice(manager, disk):
    """After it nothing is saved in the background; a save that waits is still welcome."""
    manager.async_save_checkpoint(items={"a": 1}, epoch=1)
    threading.Timer(0.1, disk.go.set).start()
    manager.close()
    manager.close()

    assert ["epoch_1"] == names(manager)
    with pytest.raises(ConfigurationError, match="closed"):
        manager.async_save_checkpoint(items={"a": 2}, epoch=2)
    manager.wait()
    manager.save_checkpoint(items={"a": 3}, epoch=3)
    assert ["epoch_1", "epoch_3"] == names(manager)


def test_calls_that_wait_for_memory_while_the_manager_is_closed_are_refused(tmp_path, disk):
    """They do not wait for ever, and nothing that they leave does."""
    manager, errors = manage(tmp_path), []
    manager.async_save_checkpoint(items={"a": 1}, epoch=1)

    def save():
        try:
            manager.async_save_checkpoint(items={"a": 2}, epoch=2)
        except ConfigurationError as error:
            errors.append(error)

    waiting = [threading.Thread(target=save, daemon=True) for _ in range(3)]
    for thread in waiting:
        thread.start()
    closing = threading.Thread(target=manager.close)
    closing.start()
    while not manager._background._closed:
        time.sleep(0.01)
    disk.go.set()
    for thread in (*waiting, closing):
        thread.join(LONG / 10)
    manager.wait()

    assert 3 == len(errors)
    assert ["epoch_1"] == names(manager)


def test_call_that_stages_while_the_manager_is_closed_is_refused(tmp_path, monkeypatch):
    """And so is one that waits for its memory."""
    manager, errors, real = manage(tmp_path), [], Image.stage
    staging, go = threading.Event(), threading.Event()

    def stage(*arguments, **options):
        staging.set()
        assert go.wait(LONG)
        return real(*arguments, **options)

    def save():
        try:
            manager.async_save_checkpoint(items={"a": 2}, epoch=2)
        except ConfigurationError as error:
            errors.append(error)

    monkeypatch.setattr(Image, "stage", stage)
    saving = [threading.Thread(target=save, daemon=True) for _ in range(3)]
    for thread in saving:
        thread.start()
    assert staging.wait(LONG)
    closing = threading.Thread(target=manager.close)
    closing.start()
    closing.join(0.2)
    go.set()
    for thread in (*saving, closing):
        thread.join(LONG / 10)

    assert 3 == len(errors) + len(manager.list_checkpoints())
    assert len(manager.list_checkpoints()) <= 1


class Interrupted:
    """A queue whose second reader is interrupted, once."""

    def __init__(self, queue):
        self.queue, self.calls = queue, 0

    def get(self):
        """Be interrupted, or get one."""
        self.calls += 1
        if self.calls == 2:
            raise KeyboardInterrupt
        return self.queue.get()

    def put(self, one):
        """Put one."""
        self.queue.put(one)


def test_interrupted_close_may_be_tried_again(tmp_path):
    """The second one ends."""
    manager = manage(tmp_path, in_flight=3)
    manager.async_save_checkpoint(items={"a": 1}, epoch=1)
    manager.wait()
    manager._background._images = Interrupted(manager._background._images)
    with suppress(KeyboardInterrupt):
        manager.close()
    again = threading.Thread(target=manager.close, daemon=True)
    again.start()
    again.join(LONG / 10)

    assert not again.is_alive()


def test_several_threads_may_close(tmp_path, disk):
    """At the same time, while a save is under way."""
    manager = manage(tmp_path, in_flight=3)
    manager.async_save_checkpoint(items={"a": 1}, epoch=1)
    closing = [threading.Thread(target=manager.close, daemon=True) for _ in range(8)]
    for thread in closing:
        thread.start()
    disk.go.set()
    for thread in closing:
        thread.join(LONG / 10)

    assert [] == [thread for thread in closing if thread.is_alive()]
    assert ["epoch_1"] == names(manager)


def test_block_ends_with_everything_durable(tmp_path):
    """And what ends it comes through, whatever went wrong besides."""
    with manage(tmp_path) as manager:
        manager.async_save_checkpoint(items={"a": 1}, epoch=1)
    assert ["epoch_1"] == names(manager)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_exception_of_the_block_comes_through(tmp_path, disk, error):
    """A save that failed meanwhile was warned of."""
    disk.error = StorageError("broken")
    disk.go.set()
    with pytest.warns(CheckpointWarning, match="broken"), pytest.raises(error):
        save_and_raise(tmp_path, error)


def save_and_raise(place, error):
    """Save in the background, and raise."""
    with manage(place) as manager:
        manager.async_save_checkpoint(items={"a": 1}, epoch=1)
        raise error


def run_script(script, *arguments, **options):
    """Run a script to its end."""
    command = [sys.executable, SCRIPTS / script, *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=LONG, **options)


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ("nothing", 0, ""),
        ("error", 1, "ValueError: training is broken"),
        ("exit", 3, ""),
        ("drop", 0, ""),
        ("atexit", 0, ""),
        ("atexit-sync", 0, ""),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_script_that_ends_without_close_has_saved(tmp_path, way, end, status, said):
    """However it ends: what was staged is durable, what retention removes is removed, and nobody complains."""
    done = run_script("async_end.py", tmp_path, way, end)
    last = (done.stderr.splitlines() or [""])[-1]

    assert (status, said) == (done.returncode, last), done.stderr
    assert "Warning" not in done.stderr
    assert ["epoch_4", "epoch_5"] == names(manage(tmp_path))
    for one in manage(tmp_path).list_checkpoints():
        open_checkpoint(tmp_path / "unet" / one.name).verify()


@pytest.mark.parametrize("wait", [0, 0.5], ids=["at once", "later"])
@pytest.mark.parametrize("way", WAYS)
def test_interrupt_from_the_keyboard_loses_nothing(tmp_path, way, wait):
    """It goes to all processes of the terminal, also to one that is just starting to write."""
    command = [sys.executable, SCRIPTS / "async_end.py", tmp_path, way, "sleep"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        assert "staged\n" == process.stdout.readline()
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=LONG)

    assert -signal.SIGINT == process.returncode, said
    assert ["epoch_4", "epoch_5"] == names(manage(tmp_path)), said
    assert "Warning" not in said


def test_manager_of_a_parent_saves_nothing_in_the_background_of_a_child(tmp_path):
    """Its thread is not there; a save that waits works, although the parent was saving when it forked."""
    done = run_script("async_fork.py", "inherit", tmp_path)

    assert "refused, saved" == done.stdout.strip(), done.stderr
    assert ["epoch_1", "epoch_2"] == sorted(names(manage(tmp_path)))


# ---------------------------------------------------------------------- memory


def test_memory_is_used_again_and_grows_with_the_state(manager, monkeypatch):
    """Each staged state lies where the one before it lay, until one is larger than any before."""
    real, places = Image.stage, []

    def stage(self, *arguments, **options):
        found = real(self, *arguments, **options)
        places.append((self.slab.address, self.slab.size))
        return found

    monkeypatch.setattr(Image, "stage", stage)
    for epoch, size in enumerate([1_000, 50_000, 300_000, 900_000, 300_000, 1_000, 900_000]):
        manager.async_save_checkpoint(items={"a": b"x" * size}, epoch=epoch)
        manager.wait()

    assert sorted(size for _, size in places[:4]) == [size for _, size in places[:4]]
    assert 1 == len(set(places[3:]))
    for epoch, size in enumerate([1_000, 50_000, 300_000, 900_000, 300_000, 1_000, 900_000]):
        assert size == len(manager.load_checkpoint(f"epoch_{epoch}").state["a"])


def test_managers_side_by_side_do_not_mix(tmp_path):
    """They share the buffers that large files go through."""
    content = {name: name.encode() * (3 << 20) for name in "abcd"}
    managers = {name: CheckpointManager(tmp_path, name) for name in content}
    for epoch in range(2):
        for name, manager in managers.items():
            manager.async_save_checkpoint(items={"data": content[name], "epoch": epoch}, epoch=epoch)
    for name, manager in managers.items():
        manager.close()
        for epoch in range(2):
            state = manager.load_checkpoint(f"epoch_{epoch}").state
            assert (content[name], epoch) == (state["data"], state["epoch"])


@pytest.mark.parametrize("way", WAYS)
def test_one_manager_may_be_used_by_several_threads(tmp_path, way):
    """Every save of every thread is there once, as it was, in the background or not."""
    troubles = []
    manager = manage(tmp_path, background=way, in_flight=2)

    def work(thread):
        try:
            for epoch in range(6):
                save = manager.async_save_checkpoint if epoch % 3 else manager.save_checkpoint
                save(items={"who": [thread, epoch], "data": bytes([thread, epoch]) * 50_000}, epoch=epoch)
        except Exception as error:
            troubles.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    manager.close()
    states = [manager.load_checkpoint(one.name).state for one in manager.list_checkpoints()]

    assert [] == troubles
    assert [[thread, epoch] for thread in range(3) for epoch in range(6)] == sorted(one["who"] for one in states)
    assert all(bytes(one["who"]) * 50_000 == one["data"] for one in states)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background": "fork"}, "background='fork' must be 'thread' or 'process'"),
        ({"in_flight": 0}, "in_flight=0 must be 1 or more"),
        ({"background": "process", "checkpoint_dir": "memory://nothing"}, "use background='thread'"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, options, message):
    """At once, with the way out."""
    with pytest.raises(ConfigurationError, match=message):
        CheckpointManager(**{"checkpoint_dir": tmp_path, "model_name": "unet", **options})


def test_errors_of_the_system_have_our_type(tmp_path, monkeypatch):
    """As in a save that waits."""
    real = os.fsync

    def refuse(_):
        raise OSError(errno.EIO, "Input/output error")

    with manage(tmp_path) as manager:
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.warns(CheckpointWarning, match="Input/output error"):
            fail(manager)
        monkeypatch.setattr(os, "fsync", real)
        with pytest.raises(StorageError, match="Input/output error"):
            manager.wait()
