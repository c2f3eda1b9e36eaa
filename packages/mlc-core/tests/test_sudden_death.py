"""Death at any moment: after each call of the operating system that a save makes, all is as before or all is saved.

Here inside this process, everywhere; `test_kills.py` does it with real processes where strace is installed.
"""

import pytest

from mlc_core import CheckpointManager, open_storage
from mlc_core.storage.local import GRACE


def state(epoch):
    """Return what the checkpoint of *epoch* holds."""
    return {"data": {"epoch": epoch, "numbers": [epoch] * 50}}


def manage(place):
    """Open a manager that keeps two and has a best, so that a save also removes and moves links."""
    return CheckpointManager(place, "unet", max_checkpoints=2, monitor_metric="score", mode="max")


def save(manager, epoch):
    """Save *epoch*."""
    manager.save_checkpoint(items=state(epoch), epoch=epoch, metrics={"score": epoch})


def check(place, same, *, saved):
    """Look at what is left as the next process would: all of it sound, the newest loads, and nothing is in the way."""
    manager = manage(place)
    found = manager.list_checkpoints()
    for one in found:
        assert same(state(one.epoch), dict(manager.load_checkpoint(one.name).state))
    assert {one.epoch for one in found} >= {saved}
    assert found[-1].epoch in {saved, saved + 1}
    assert same(state(found[-1].epoch), dict(manager.load_checkpoint("latest").state))
    assert [] == manager.get_checkpoint_summary()["damaged"]
    return found


@pytest.mark.parametrize("before", [0, 2])
def test_death_at_any_call_of_a_save(tmp_path, death, same, faults, leftovers, grow_old, before):
    """The first save of a directory, and one that replaces another: old or new, never torn, never none."""
    manager = self_made(tmp_path / "whole", before)
    with death.after(tmp_path) as whole:
        save(manager, before + 1)
    outcomes = set()
    for calls in range(whole.calls):
        place = tmp_path / str(calls)
        manager = self_made(place, before)
        with death.after(place, calls):
            save(manager, before + 1)
        with faults.case("death inside a process at a call of a save"):
            left = [] if before == 0 and not manage(place).list_checkpoints() else check(place, same, saved=before or 1)
            outcomes.add(tuple(one.epoch for one in left))
            grow_old(place / "unet")
            save(manage(place), before + 2)
            assert before + 2 == manage(place).list_checkpoints()[-1].epoch
        assert [] == leftovers(place / "unet")

    assert whole.calls > 15
    assert {(), (1,)} == outcomes if before == 0 else {(1, 2), (1, 2, 3), (2, 3)} == outcomes


def self_made(place, epochs):
    """Return a manager of *place* that has saved so many *epochs*."""
    manager = manage(place)
    for epoch in range(1, epochs + 1):
        save(manager, epoch)
    return manager


def test_death_while_removing(tmp_path, death, same, leftovers, grow_old):
    """What is being removed is there or gone, and the rest of it is taken out later."""
    for calls in range(12):
        place = tmp_path / str(calls)
        storage = self_made(place, 2).storage
        with death.after(place, calls):
            storage.remove("epoch_1")
        assert {"epoch_2"} <= set(storage.entries())
        check(place, same, saved=2)
        grow_old(place / "unet")
        manage(place)
        assert [] == leftovers(place / "unet")


def test_leftovers_of_the_dead_wait_for_the_grace_period(tmp_path, death, grow_old):
    """Young ones may belong to a writer that is about to lock them; old ones that nobody holds are swept."""
    manager = self_made(tmp_path, 1)
    with death.after(tmp_path, 9):
        save(manager, 2)
    root = tmp_path / "unet"
    (leftover,) = (root / ".mlc" / "staging").iterdir()
    trash = root / ".mlc" / "trash"
    (trash / "1").symlink_to("epoch_1")
    (trash / "2").mkdir()

    assert [] == list(open_storage(root).sweep())
    grow_old(root)
    assert [leftover.name, "1", "2"] == list(open_storage(root).sweep())
    assert ["epoch_1"] == list(open_storage(root).entries())


def test_writer_at_work_is_never_swept(tmp_path, grow_old):
    """However long it takes: it holds its directory."""
    root = tmp_path / "unet"
    staging = open_storage(root).stage(1)
    staging.write("one.bin", 1, [b"1"])
    grow_old(root)

    assert GRACE < 3600
    assert [] == list(open_storage(root).sweep())
    staging.commit("entry", b"{}")
    assert ["entry"] == list(open_storage(root).entries())


def test_failing_sweep_is_nobodys_problem(tmp_path, monkeypatch, grow_old):
    """Another process may be doing the same."""
    (tmp_path / ".mlc" / "trash" / "1").mkdir(parents=True)
    grow_old(tmp_path)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr("shutil.rmtree", refuse)
    assert [] == list(open_storage(tmp_path).sweep())
