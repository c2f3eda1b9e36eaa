"""Processes that fork in between: what is shared with a child, and what hangs because of it.

usage: async_fork.py slab | inherit DIRECTORY | close DIRECTORY | process DIRECTORY | removal DIRECTORY
"""

import os
import signal
import sys
import threading
import warnings
from pathlib import Path

from mlc_core import CheckpointManager, ConfigurationError
from mlc_core.memory import Slab
from mlc_core.storage import LocalStorage
from mlc_core.storage.removal import delete, wait_until_deleted

warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tried here


def fork():
    """Fork, and let nothing live longer than a minute."""
    child = os.fork()
    signal.alarm(60)
    return child


def slab():
    """Let a child write to memory that both have, and print whose it is."""
    memory = Slab(4096)
    memory.view[:4] = b"ours"
    child = fork()
    if child == 0:
        memory.view[:4] = b"mine"
        os._exit(0)
    os.waitpid(child, 0)
    print(bytes(memory.view[:4]).decode())


def process(directory):
    """Close a manager while a child of ours, as a worker that loads data, lives on."""
    manager = CheckpointManager(directory, "unet", background="process")
    manager.async_save_checkpoint(items={"a": 1}, epoch=1).durable.result()
    child = fork()
    if child == 0:
        signal.pause()
    manager.close()
    os.kill(child, 9)
    os.waitpid(child, 0)
    print("closed")


def close(directory):
    """Close in a child what the parent goes on to use."""
    manager = CheckpointManager(directory, "unet", background="process")
    for epoch in (1, 2, 3):
        manager.async_save_checkpoint(items={"a": epoch}, epoch=epoch).durable.result()
        child = fork()
        if child == 0:
            manager.close()
            os._exit(0)
        os.waitpid(child, 0)
    manager.close()
    print(*(one.name for one in manager.list_checkpoints()))


def removal(directory):
    """Remove in a child, after the parent did."""
    for name in ("one", "two"):
        (directory / name).mkdir()
    delete(directory / "one")
    wait_until_deleted()
    child = fork()
    if child == 0:
        delete(directory / "two")
        wait_until_deleted()
        os._exit(0)
    os.waitpid(child, 0)
    print(*sorted(one.name for one in directory.iterdir()), "left")


def inherit(directory):
    """Save in a child with the manager of its parent, which was saving when it forked."""
    manager, held = CheckpointManager(directory, "unet"), threading.Event()
    real = LocalStorage.stage

    def stage(storage, size):
        held.wait()
        return real(storage, size)

    LocalStorage.stage = stage
    manager.async_save_checkpoint(items={"a": 1}, epoch=1)
    child = fork()
    if child == 0:
        LocalStorage.stage = real
        try:
            manager.async_save_checkpoint(items={"a": 2}, epoch=2)
        except ConfigurationError:
            print("refused", end=", ")
        manager.save_checkpoint(items={"a": 2}, epoch=2)
        print("saved", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    held.set()
    manager.close()


{"close": close, "inherit": inherit, "process": process, "removal": removal, "slab": slab}[sys.argv[1]](
    *map(Path, sys.argv[2:])
)
