"""Saving what an exception would lose, and letting the exception through whatever happens."""

import threading

import pytest

from mlc_core import CheckpointManager, CheckpointWarning, StorageError
from mlc_core.retention import KeepAll
from mlc_core.storage import LocalStorage
from mlc_core.strategies import AnyOf, Epoch, OnException

LONG = 60  # seconds; nobody waits for them unless something hangs


def manage(place, strategy="on_exception", **options):
    """Open a manager that keeps everything."""
    return CheckpointManager(place, "unet", strategy, **{"retention": KeepAll(), **options})


def names(manager):
    """Return the names of what is there, in order of commit."""
    return [one.name for one in manager.list_checkpoints()]


def break_down(error=ValueError):
    """Raise, as training does."""
    msg = "training is broken"
    raise error(msg)


def state_of(step):
    """Return what is known at a step."""
    return {"items": {"a": step}, "epoch": 1, "step": step, "epoch_ended": False, "metrics": {"loss": 0.5}}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_what_an_exception_would_lose_is_saved(place, error):
    """With the moment, and the reason; the exception comes through as it was."""
    manager, raised = manage(place), error("training is broken")
    with pytest.raises(error) as caught, manager.guard(lambda: state_of(7)):
        raise raised
    (saved,) = manager.list_checkpoints()

    assert raised is caught.value
    assert ("epoch_1_step_7", (f"{error.__name__} ends the training",)) == (saved.name, saved.reasons)
    assert (1, 7, False, {"loss": 0.5}) == (saved.epoch, saved.step, saved.epoch_ended, dict(saved.metrics))
    assert 7 == manager.load_checkpoint().state["a"]


def test_block_that_ends_well_saves_nothing(place):
    """And asks for no state."""
    manager = manage(place)
    with manager.guard(lambda: pytest.fail("nobody needs it")):
        manager.due(epoch=1)

    assert [] == names(manager)


@pytest.mark.parametrize(
    ("strategy", "saves"),
    [
        ("on_exception", True),
        ("epoch", False),
        ("all", False),
        (OnException(only=("ValueError",)), True),
        (OnException(only=("KeyboardInterrupt",)), False),
        (OnException(ignore=("ValueError",)), False),
        (AnyOf((Epoch(), OnException())), True),
    ],
    ids=repr,
)
def test_strategy_decides(place, strategy, saves):
    """Only what says so saves at an exception."""
    manager = manage(place, strategy)
    with pytest.raises(ValueError, match="broken"), manager.guard(lambda: state_of(7)):
        break_down()

    assert saves == (["epoch_1_step_7"] == names(manager))


def refuse(*_):
    """Be a disk that takes nothing."""
    msg = "the disk is broken"
    raise StorageError(msg)


@pytest.mark.parametrize("what", ["state", "arguments", "storage", "nothing to save"])
def test_exception_comes_through_although_the_save_fails(tmp_path, monkeypatch, what):
    """A warning says what could not be saved."""
    manager = manage(tmp_path)
    states = {
        "state": lambda: 1 / 0,
        "arguments": lambda: {**state_of(7), "epoch": "one"},
        "storage": lambda: state_of(7),
        "nothing to save": lambda: {"items": {"a": print}},
    }
    if what == "storage":
        monkeypatch.setattr(LocalStorage, "stage", refuse)
    with (
        pytest.warns(CheckpointWarning, match="state at this ValueError could not be saved"),
        pytest.raises(ValueError, match="training is broken"),
        manager.guard(states[what]),
    ):
        break_down()

    assert [] == names(manager)


@pytest.fixture
def disk(monkeypatch):
    """A disk that takes nothing until `go` is set, and answers with an error then, where there is one."""
    found, real = Disk(), LocalStorage.stage
    monkeypatch.setattr(LocalStorage, "stage", lambda *arguments: found.stage(real, *arguments))
    yield found
    found.go.set()


class Disk:
    """What the fixture gives."""

    def __init__(self):
        self.go, self.errors = threading.Event(), []

    def stage(self, real, *arguments):
        """Wait, fail, or do it."""
        assert self.go.wait(LONG)
        if self.errors:
            raise self.errors.pop()
        return real(*arguments)


def save_and_break_down(manager, disk, steps):
    """Save *steps* in the background, and raise while they are under way."""
    with manager.guard(lambda: state_of(7)):
        for step in steps:
            manager.async_save_checkpoint(**state_of(step), reason="test")
        threading.Timer(0.1, disk.go.set).start()
        break_down()


@pytest.mark.parametrize("failures", [1, 2])
def test_earlier_failure_does_not_prevent_the_last_save(tmp_path, disk, failures):
    """The disk has room again, and this is the moment that counts."""
    disk.errors = [StorageError("the disk is broken")] * failures
    manager = manage(tmp_path, in_flight=2)
    with pytest.warns(CheckpointWarning, match="the disk is broken"), pytest.raises(ValueError, match="is broken"):
        save_and_break_down(manager, disk, range(failures))
    manager.close()

    assert ["epoch_1_step_7"] == names(manager)


def test_last_save_comes_after_those_under_way(tmp_path, disk):
    """Nothing that was saved before the exception is lost, and the manager may close around it."""
    with pytest.raises(ValueError, match="is broken"), manage(tmp_path, in_flight=2) as manager:
        save_and_break_down(manager, disk, [5, 6])

    assert ["epoch_1_step_5", "epoch_1_step_6", "epoch_1_step_7"] == names(manager)
