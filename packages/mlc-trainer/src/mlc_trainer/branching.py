"""Going on from an older checkpoint: what was decided is on disk before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core import CheckpointNotFoundError, CorruptCheckpointError
from mlc_core.shelf import PIN
from mlc_trainer.errors import RunError
from mlc_trainer.files import replace_file

if TYPE_CHECKING:
    from mlc_core import Saved
    from mlc_trainer.resume_report import ResumeReport
    from mlc_trainer.saving import RunCheckpoints

__all__ = ["Branch", "go_on", "let_go", "read_branch", "take_off_final"]


POINTERS = {"best", "final", "latest"}
"""Names that lead elsewhere from time to time."""


def _names_one(_: object, __: object, value: Any) -> None:
    if not isinstance(value, str) or not value or value in POINTERS:
        msg = f"{value!r} is no checkpoint"
        raise ValueError(msg)


def _counts(_: object, __: object, value: Any) -> None:
    if type(value) is not int or value < 0:
        msg = f"{value!r} is no number of a checkpoint"
        raise ValueError(msg)


@attrs.frozen(kw_only=True)
class Branch:
    """Where a run left the line of its checkpoints."""

    source: str = attrs.field(validator=_names_one)
    """The name or the path of the checkpoint that it went on from."""
    id: str = attrs.field(validator=attrs.validators.instance_of(str))
    newest: int = attrs.field(validator=_counts)
    """The highest sequence number there was then: all up to it but the source lie on what was given up, or before."""
    pinned: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    """Whether the source was pinned for this, and is to be unpinned."""


def read_branch(file: Path) -> Branch | None:
    """Return what *file* says, None if it is not there.

    Raises:
        RunError: If it cannot be read.
    """
    if not file.is_file():
        return None
    try:
        return Branch(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, RecursionError) as error:
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
    branch, given = read_branch(file), checkpoints.config
    left = branch  # what a decision that is taken back leaves pinned
    branch = branch if str(wanted) == "latest" else None
    saved = checkpoints.manager.list_checkpoints()
    if branch is not None and all(one.sequence <= branch.newest for one in saved):
        report = _restore_source(checkpoints, branch, file)
    else:
        report = checkpoints.restore(wanted)
    loaded = _loaded(checkpoints)
    given_up = branch is not None and checkpoints.at is not None and loaded.sequence <= branch.newest
    if branch is not None and given_up and loaded.id != branch.id:  # what was saved on this line is corrupt
        skipped = (*report.passed_over, f"{loaded.name}: is of the line that was given up")
        checkpoints.config = given  # or nobody would hear in what it differs
        report = attrs.evolve(_restore_source(checkpoints, branch, file), passed_over=skipped)
        loaded = _loaded(checkpoints)
    newest = max((one.sequence for one in saved), default=0)
    if checkpoints.at is None or loaded.sequence < newest:
        same = branch is not None and loaded.id == branch.id
        source = branch.source if branch is not None and same else _name(checkpoints, wanted)
        _decide(checkpoints, Branch(source=source, id=loaded.id, newest=newest), file, before=left)
    elif branch is None:
        world.first(lambda: file.unlink(missing_ok=True))  # what was decided earlier does not hold any more
        _unpin(checkpoints, left)
    let_go(checkpoints, file)
    return report


def let_go(checkpoints: RunCheckpoints, file: Path) -> None:
    """Leave what the run went on from to retention again, once two checkpoints of the new line can stand in for it.

    Raises:
        RunError: If *file* cannot be read.
        DiskFullError, StorageError: If it cannot be written.
    """
    branch = checkpoints.engine.world.first(lambda: read_branch(file))
    if branch is None or not branch.pinned:
        return
    since = [one for one in checkpoints.manager.list_checkpoints() if one.sequence > branch.newest]
    if len(since) > 1:
        _unpin(checkpoints, branch)
        _write(checkpoints, attrs.evolve(branch, pinned=False), file)


def _decide(checkpoints: RunCheckpoints, branch: Branch, file: Path, *, before: Branch | None) -> None:
    """Write *branch* down, pin its source if it is here, and unpin that of the decision *before*."""
    if checkpoints.at is not None:
        is_same = before is not None and before.id == branch.id
        ours = is_same and before is not None and before.pinned
        branch = attrs.evolve(branch, pinned=ours or not _is_pinned(checkpoints, checkpoints.at))
        _write(checkpoints, branch, file)  # first: of a pin that no file tells of nobody would know whose it is
        checkpoints.manager.pin(checkpoints.at)
    else:
        _write(checkpoints, branch, file)
    if before is not None and before.id != branch.id:
        _unpin(checkpoints, before)


def _write(checkpoints: RunCheckpoints, branch: Branch, file: Path) -> None:
    text = json.dumps(attrs.asdict(branch))
    checkpoints.engine.world.first(lambda: replace_file(file, f"{text}\n"))


def _is_pinned(checkpoints: RunCheckpoints, name: str) -> bool:
    storage = checkpoints.manager.storage

    def look() -> bool:
        return any(entry == name for pointer, entry in storage.pointers().items() if pointer.startswith(PIN))

    return checkpoints.engine.world.first(look)


def _unpin(checkpoints: RunCheckpoints, branch: Branch | None) -> None:
    """Unpin the source of *branch*, if it was pinned for that and is here."""
    names = {one.id: one.name for one in checkpoints.manager.list_checkpoints()}
    if branch is not None and branch.pinned and branch.id in names:
        checkpoints.manager.unpin(names[branch.id])


def _restore_source(checkpoints: RunCheckpoints, branch: Branch, file: Path) -> ResumeReport:
    try:
        return checkpoints.restore(branch.source)
    except (CheckpointNotFoundError, CorruptCheckpointError) as error:
        msg = (
            f"{error}; {file} says that the run goes on from there, and nothing that was saved since can be used. Put "
            "it back, or remove the file: then the run goes on from the newest that can be used"
        )
        raise type(error)(msg) from error


def _loaded(checkpoints: RunCheckpoints) -> Saved:
    assert checkpoints.loaded is not None
    return checkpoints.loaded


def _name(checkpoints: RunCheckpoints, wanted: Path | str) -> str:
    if "://" in str(checkpoints.source):
        return str(wanted)
    return checkpoints.at if checkpoints.at is not None else str(Path(str(checkpoints.source)).resolve())


def take_off_final(checkpoints: RunCheckpoints) -> None:
    """Remove the pointer `final`: training goes on, and what it leads to is the end no more."""
    storage = checkpoints.manager.storage

    def take_off() -> None:
        if "final" in storage.pointers():
            with storage.lock():
                storage.point("final", None)

    checkpoints.engine.world.first(take_off)
