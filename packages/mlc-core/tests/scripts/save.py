"""Save some epochs of plain data: the process that the tests kill, starve and run several of.

usage: save.py DIRECTORY FIRST LAST [--keep N] [--who NAME]
"""

import argparse
from pathlib import Path

from mlc_core import CheckpointManager
from mlc_core.retention import KeepAll


def main():
    """Save the epochs, and print where each one lies."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--keep", type=int)
    parser.add_argument("--who", default="nobody")
    given = parser.parse_args()
    manager = CheckpointManager(
        given.directory,
        "unet",
        max_checkpoints=given.keep,
        monitor_metric="score",
        mode="max",
        retention=None if given.keep else KeepAll(),
    )
    for epoch in range(given.first, given.last + 1):
        items = {"epoch": epoch, "who": given.who, "data": list(range(epoch, epoch + 500))}
        print(manager.save_checkpoint(items=items, epoch=epoch, metrics={"score": epoch}), flush=True)


main()
