"""Save from a second process, again and again, until somebody kills this one.

usage: async_killed.py DIRECTORY
"""

import signal
import sys

from mlc_core import CheckpointManager

signal.alarm(60)
manager = CheckpointManager(sys.argv[1], "unet", background="process", in_flight=2)
for epoch in range(10_000):
    manager.async_save_checkpoint(items={"data": bytes([epoch % 256]) * 5_000_000}, epoch=epoch)
    if epoch == 5:
        manager.wait()
        print(manager._background._write.__self__._process.pid, flush=True)
