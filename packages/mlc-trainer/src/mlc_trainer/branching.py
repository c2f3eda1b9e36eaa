"""Going on from an older checkpoint: what was decided is on disk before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from mlc_trainer.errors import RunError
from mlc_trainer.files import replace_file

if TYPE_CHECKING:
    from mlc_core import Saved
    from mlc_trainer.resume_report import ResumeReport
    from mlc_trainer.saving import RunCheckpoints

__all__ = ["Branch", "go_on", "read_branch", "take_off_final"]


@attrs.frozen(kw_only=True)
class Branch:
    """Where a run left the line of its checkpoints."""

    source: str
    """The name or the path of the checkpoint that it went on from."""
    id: str
    newest: int
    """The highest sequence number there was then: all up to it but the source lie on what was given up, or before."""


def read_branch(file: Path) -> Branch | None:
    """Return what *file* says, None if it is not there.

    Raises:
        RunError: If it cannot be read.
    """
    if not file.is_file():
        return None
    try:
        return Branch(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        msg = f"{file} does not say where the run was to go on; remove it, and name the checkpoint to go on from"
        raise RunError(msg) from error


def go_on(checkpoints: RunCheckpoints, wanted: Path | str, file: Path) -> ResumeReport:
    """Load what is *wanted*, and write to *file* if that is another one than the newest.

    `latest` is the latest of the line that the run is on: until something was saved on it, that is where it began.

    Raises:
        RunError: If *file* cannot be read.
        CheckpointNotFoundError, CorruptCheckpointError, MismatchError: As `RunCheckpoints.restore`.
        DiskFullError, StorageError: If it cannot be written.
    """
    world = checkpoints.engine.world
    branch = read_branch(file) if str(wanted) == "latest" else None
    saved = checkpoints.manager.list_checkpoints()
    if branch is not None and all(one.sequence <= branch.newest for one in saved):
        wanted = branch.source
    report = checkpoints.restore(wanted)
    loaded = _loaded(checkpoints)
    given_up = branch is not None and checkpoints.at is not None and loaded.sequence <= branch.newest
    if branch is not None and given_up and loaded.id != branch.id:  # what was saved on this line is corrupt
        report = checkpoints.restore(branch.source)
        loaded = _loaded(checkpoints)
    newest = max((one.sequence for one in saved), default=0)
    if checkpoints.at is None or loaded.sequence < newest:
        source = str(wanted) if "://" in str(checkpoints.source) else _name(checkpoints)
        text = json.dumps(attrs.asdict(Branch(source=source, id=loaded.id, newest=newest)))
        world.first(lambda: replace_file(file, f"{text}\n"))
    elif branch is None:
        world.first(lambda: file.unlink(missing_ok=True))  # what was decided earlier does not hold any more
    return report


def _loaded(checkpoints: RunCheckpoints) -> Saved:
    assert checkpoints.loaded is not None
    return checkpoints.loaded


def _name(checkpoints: RunCheckpoints) -> str:
    return checkpoints.at if checkpoints.at is not None else str(Path(str(checkpoints.source)).resolve())


def take_off_final(checkpoints: RunCheckpoints) -> None:
    """Remove the pointer `final`: training goes on, and what it leads to is the end no more."""
    storage = checkpoints.manager.storage

    def take_off() -> None:
        if "final" in storage.pointers():
            with storage.lock():
                storage.point("final", None)

    checkpoints.engine.world.first(take_off)
