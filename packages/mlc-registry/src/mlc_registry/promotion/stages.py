"""Where a stage has been, read from its history, and where it may not go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_registry.errors import StageConflictError, YankedVersionError
from mlc_registry.misses import removed_version

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from mlc_registry.records import Change, ModelVersion, Stage
    from mlc_registry.semver.versions import Version

__all__ = ["has_been", "refuse_unexpected", "refuse_yanked", "replay"]


def replay(changes: Sequence[Change]) -> list[Version]:
    """Return the steps of a stage to where it is now: a promotion adds one, a rollback takes the last one back.

    Promoting the version that is there already is no step. Where it was demoted the way back ends: nothing before is
    where it is now.
    """
    steps: list[Version] = []
    for one in changes:
        if one.kind == "rolled back":
            steps.pop()
        elif one.kind == "demoted":
            steps.clear()
        elif one.kind == "promoted" and (not steps or steps[-1] != one.after):
            steps.append(one.after)
    return steps


def has_been(changes: Sequence[Change], version: Version) -> bool:
    """Say whether a stage was ever moved to *version*, and not rolled back from it; a demotion takes nothing back."""
    return any(
        one.kind == "promoted" and one.after == version and version in replay(changes[: _end(changes, number)])
        for number, one in enumerate(changes)
    )


def _end(changes: Sequence[Change], start: int) -> int:
    """Return the number of the first demotion behind *start*: up to there steps are taken back."""
    return next((at for at in range(start, len(changes)) if changes[at].kind == "demoted"), len(changes))


def refuse_yanked(target: ModelVersion, stage: str) -> None:
    """Raise if *stage* may not move to *target*.

    Raises:
        RemovedVersionError: If its files were removed.
        YankedVersionError: If it has been yanked.
    """
    if target.removed:
        raise removed_version(target)
    if target.yanked:
        msg = (
            f"stage {stage!r} was not moved: {target.model} {target.version} was yanked "
            f"({target.yank_reason or 'no reason was given'}). Promote another version, or unyank it first"
        )
        raise YankedVersionError(msg)


def refuse_unexpected(model: str, stage: str, now: Stage | None, expected: Version | Literal["unset"] | None) -> None:
    """Raise if *stage* of *model*, which is *now*, is not where it was *expected*; None expects nothing.

    Raises:
        StageConflictError: If it is not; says what it points to.
    """
    if expected is not None and expected != (now.version if now else "unset"):
        found = f"points to {now.version}, moved by {now.actor}" if now else "points to nothing yet"
        msg = f"stage {stage!r} of {model!r} {found}; it was not moved, as {expected} was expected"
        raise StageConflictError(msg)
