"""Start processes that are ready to save and stand still until somebody who watches them lets them go.

Reads lines of a directory, an epoch, a number of bytes and a way to save; answers each with the number of a stopped
process, and when that has ended with its status. Starting Python once and forking is how a hundred deaths take seconds.
"""

import os
import signal
import sys
import traceback
import warnings
from pathlib import Path

from content import content

from mlc_core import CheckpointManager, storages
from mlc_core.storage import local
from mlc_core.storage.removal import wait_until_deleted

warnings.simplefilter("ignore")
storages().names()  # all that is imported is imported now
OPTIONS = {"max_checkpoints": 2, "monitor_metric": "score", "mode": "max"}


def save(directory, epoch, size, how):
    """Save one epoch, in this process."""
    background = how if how == "process" else "thread"
    manager = CheckpointManager(directory, "unet", **OPTIONS, background=background)
    given = {"items": content(epoch, large=size), "epoch": epoch, "metrics": {"score": epoch}}
    os.kill(os.getpid(), signal.SIGSTOP)
    if how == "here":
        manager.save_checkpoint(**given)
    elif how in {"thread", "process"}:
        manager.async_save_checkpoint(**given).durable.result()
    elif how == "staged":
        local.LocalStaging.commit = lambda *_: signal.pause()
        manager.async_save_checkpoint(**given).staged.result()
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "pin":
        manager.pin("epoch_1")
        manager.storage.set_aside("epoch_2")
    manager.close()
    wait_until_deleted()


for line in sys.stdin:
    place, number, size, how = line.split()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            save(Path(place), int(number), int(size), how)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.waitpid(child, os.WUNTRACED)
    print(child, flush=True)
    _, ended = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(ended), flush=True)
