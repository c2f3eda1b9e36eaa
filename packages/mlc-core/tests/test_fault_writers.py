"""Several writers at one directory at once, of all kinds: nothing is lost, nothing is there twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlc_core import CheckpointManager
from mlc_core.retention import KeepAll

SAVE = Path(__file__).parent / "scripts" / "save.py"
LARGE = 1_200_000
KINDS = ("here", "thread", "process", "here")


def start(place, number, last, *options):
    """Start a process that saves epochs of its own."""
    command = [sys.executable, SAVE, place, 100 * number + 1, 100 * number + last, "--who", f"p{number}"]
    command += ["--how", KINDS[number], "--large", LARGE, *options]
    return subprocess.Popen([str(one) for one in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(processes):
    """Return the names that each process said it had saved, once all have ended well."""
    outputs = [process.communicate(timeout=100) for process in processes]
    assert [""] * len(processes) == [errors for _, errors in outputs]
    return [[Path(line).name for line in output.split()] for output, _ in outputs]


@pytest.mark.slow
def test_writers_of_all_kinds_lose_nothing(tmp_path, content, faults, leftovers):
    """Each in its thread or its process: every save is there once, with its content and a number of its own."""
    rounds = 40 if faults.thorough else 4
    told = end([start(tmp_path, number, rounds) for number in range(4)])
    manager = CheckpointManager(tmp_path, "unet", retention=KeepAll())
    saved = manager.list_checkpoints()
    with faults.case("concurrent writers", cases=4 * rounds):
        names = {one.name for one in saved}
        if len(names) != 4 * rounds or names != {name for one in told for name in one}:
            raise faults.Lost(told)
        assert list(range(1, 4 * rounds + 1)) == [one.sequence for one in saved]
        for one in saved:
            state = dict(manager.load_checkpoint(one.name).state)
            if not content.is_content(state, one.epoch, who=f"p{one.epoch // 100}", large=LARGE):
                raise faults.Silent(one.name)
    assert [] == leftovers(tmp_path / "unet")


@pytest.mark.slow
def test_writers_that_remove_and_pin_lose_nothing_that_is_kept(tmp_path, content, faults, leftovers):
    """Each prunes what all have saved: pins stay, the newest stays, and what is there is whole."""
    rounds = 40 if faults.thorough else 5
    told = end([start(tmp_path, number, rounds, "--keep", "6", "--pin") for number in range(4)])
    manager = CheckpointManager(tmp_path, "unet", retention=KeepAll())
    saved = manager.list_checkpoints()
    with faults.case("concurrent writers with retention and pins", cases=4 * rounds):
        assert [rounds] * 4 == [len(set(one)) for one in told]
        names = {one.name for one in saved}
        if not {f"epoch_{100 * number + 1}" for number in range(4)} <= names:
            raise faults.Lost(names, told)
        if max(one.sequence for one in saved) != 4 * rounds or saved[-1].name not in {one[-1] for one in told}:
            raise faults.Lost(saved[-1].name, told)
        assert len({one.sequence for one in saved}) == len(saved)
        for one in saved:
            state = dict(manager.load_checkpoint(one.name).state)
            if not content.is_content(state, one.epoch, who=f"p{one.epoch // 100}", large=LARGE):
                raise faults.Silent(one.name)
    assert saved[-1].name == manager.storage.pointers()["latest"]
    assert [] == leftovers(tmp_path / "unet")
