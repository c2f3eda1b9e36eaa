"""What is told, when, and that telling can do no harm."""

import logging

import pytest

from mlc_core import CheckpointManager, CheckpointReader, CorruptCheckpointError
from mlc_core.retention import KeepLatest


def test_events_are_told_in_order(place, listener):
    """Saved before what it replaces is removed, restored after the load, each with the facts."""
    manager = CheckpointManager(place, "unet", retention=KeepLatest())
    for epoch in (1, 2):
        manager.save_checkpoint(items={"a": 1}, epoch=epoch)
    manager.load_checkpoint()

    assert [
        ("saved", "epoch_1", None),
        ("saved", "epoch_2", None),
        ("removed", "epoch_1", "not kept by KeepLatest(count=1, epoch_ends_only=False)"),
        ("restored", "epoch_2", None),
    ] == [(what, one.name, reason) for what, one, reason in listener.heard]


def test_saved_is_told_once_it_is_there(place, listener):
    """Whoever hears of a checkpoint can read it, and the links lead to it; whoever hears of a removal finds it gone."""
    looked = []

    def look(what, checkpoint, storage):
        there = checkpoint.name in storage.entries()
        looked.append((what, there))
        if what == "saved":
            CheckpointReader(storage, checkpoint).verify()
            assert checkpoint.name == storage.pointers()["latest"]

    listener.look = look
    manager = CheckpointManager(place, "unet", retention=KeepLatest())
    for epoch in (1, 2):
        manager.save_checkpoint(items={"a": 1}, epoch=epoch)

    assert [("saved", True), ("saved", True), ("removed", False)] == looked


def test_listener_may_use_the_manager(place, listener):
    """No lock is held while it is told."""
    manager = CheckpointManager(place, "unet")
    listener.look = lambda what, one, _: manager.load_checkpoint(one.name) if what == "saved" else None
    manager.save_checkpoint(items={"a": 1}, epoch=1)

    assert ["saved", "restored"] == sorted((what for what, _, _ in listener.heard), reverse=True)


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyError])
def test_failing_listener_harms_nothing(place, listener, error, caplog):
    """It is logged by name, and everything else goes on."""

    def look(*_):
        raise error

    listener.look = look
    manager = CheckpointManager(place, "unet", retention=KeepLatest())
    with caplog.at_level(logging.WARNING):
        for epoch in (1, 2):
            manager.save_checkpoint(items={"a": epoch}, epoch=epoch)
        assert {"a": 2} == dict(manager.load_checkpoint().state)

    assert ["epoch_2"] == [one.name for one in manager.list_checkpoints()]
    assert 4 == sum("plugin listener failed" in record.getMessage() for record in caplog.records)


def test_nothing_is_told_of_what_did_not_happen(tmp_path, listener):
    """A save that is not due, one that fails, and a load that fails are no events."""
    manager = CheckpointManager(tmp_path, "unet", "interval")
    manager.save_checkpoint(items={"a": 1}, epoch=1)
    with pytest.raises(TypeError):
        manager.save_checkpoint(items={"a": object()}, epoch=5)
    path = manager.save_checkpoint(items={"a": 1}, epoch=5)
    (path / "state.json").write_text("torn")
    with pytest.raises(CorruptCheckpointError):
        manager.load_checkpoint()

    assert ["saved"] == [what for what, _, _ in listener.heard]


def test_restored_tells_the_storage_it_came_from(tmp_path, listener):
    """Also when that is not the manager's own."""
    path = CheckpointManager(tmp_path / "a", "unet").save_checkpoint(items={"a": 1}, epoch=1)
    places = []
    listener.look = lambda what, one, storage: places.append(str(storage.location(one.name)))
    CheckpointManager(tmp_path / "b", "unet").load_checkpoint(path)

    assert [str(path)] == places
