"""Save some epochs: the process that the tests kill, starve and run several of.

usage: save.py DIRECTORY FIRST LAST [--keep N] [--who NAME] [--large BYTES] [--how here|thread|process] [--pin]
"""

import argparse
from pathlib import Path

from content import content

from mlc_core import CheckpointManager
from mlc_core.retention import KeepAll


def main():
    """Save the epochs, and print where each one lies once it is durable."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--keep", type=int)
    parser.add_argument("--who", default="nobody")
    parser.add_argument("--large", type=int, default=0)
    parser.add_argument("--how", default="here")
    parser.add_argument("--pin", action="store_true")
    given = parser.parse_args()
    manager = CheckpointManager(
        given.directory,
        "unet",
        max_checkpoints=given.keep,
        monitor_metric="score",
        mode="max",
        retention=None if given.keep else KeepAll(),
        background="process" if given.how == "process" else "thread",
    )
    for epoch in range(given.first, given.last + 1):
        items = content(epoch, who=given.who, large=given.large)
        arguments = {"items": items, "epoch": epoch, "metrics": {"score": epoch}}
        if given.how == "here":
            path = manager.save_checkpoint(**arguments)
        else:
            path = manager.async_save_checkpoint(**arguments).durable.result()
        if given.pin and epoch == given.first:
            manager.pin(path)
        print(path, flush=True)
    manager.close()


main()
