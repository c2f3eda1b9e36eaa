"""Save some epochs in the background, and end without waiting for them.

usage: async_end.py DIRECTORY thread|process nothing|error|exit|drop|sleep|atexit|atexit-sync
"""

import atexit
import signal
import sys
import time

from mlc_core import CheckpointManager

directory, way, end = sys.argv[1:]
signal.alarm(60)


def save(manager, epochs):
    """Save *epochs* in the background."""
    for epoch in epochs:
        manager.async_save_checkpoint(items={"epoch": epoch, "data": bytes(2_000_000)}, epoch=epoch)


def save_last(manager):
    """Save at the very end, where no thread can begin any more."""
    if end == "atexit":
        try:
            save(manager, [6])
        except RuntimeError:
            manager.wait()
            manager.close()
        else:
            raise SystemExit(9)
    else:
        manager.save_checkpoint(items={"epoch": 5, "data": bytes(2_000_000)}, epoch=5)


manager = CheckpointManager(directory, "unet", max_checkpoints=2, background=way, in_flight=2)
if end.startswith("atexit"):
    atexit.register(save_last, manager)
save(manager, range(1, 5 if end == "atexit-sync" else 6))
if end == "error":
    msg = "training is broken"
    raise ValueError(msg)
if end == "exit":
    sys.exit(3)
if end == "drop":
    del manager
if end == "sleep":
    print("staged", flush=True)
    time.sleep(50)
