"""The group `mlc checkpoints` and the rooms in which its commands are."""

from __future__ import annotations

import click

from mlc_core.commands import comparing, exchange, explaining, keeping, looking, mending, repairing

__all__ = ["checkpoints"]

ROOMS = (comparing, exchange, explaining, keeping, looking, mending, repairing)


@click.group()
def checkpoints() -> None:
    """List, verify, mend, keep, compare and exchange checkpoints. Needs no torch."""


for room in ROOMS:
    for command in room.commands:
        checkpoints.add_command(command)
