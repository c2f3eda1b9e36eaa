"""Where a stage has been, read from its history, and where it may not go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_registry.errors import YankedVersionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_registry.records import Change, ModelVersion
    from mlc_registry.versions import Version

__all__ = ["refuse_yanked", "replay"]


def replay(changes: Sequence[Change]) -> list[Version]:
    """Return the steps of a stage to where it is now: a promotion adds one, a rollback takes the last one back.

    Promoting the version that is there already is no step.
    """
    steps: list[Version] = []
    for one in changes:
        if one.kind == "rolled back":
            steps.pop()
        elif not steps or steps[-1] != one.after:
            steps.append(one.after)
    return steps


def refuse_yanked(target: ModelVersion, stage: str) -> None:
    """Raise if *stage* may not move to *target*.

    Raises:
        YankedVersionError: If it has been yanked.
    """
    if target.yanked:
        msg = (
            f"stage {stage!r} was not moved: {target.model} {target.version} was yanked "
            f"({target.yank_reason or 'no reason was given'}). Promote another version, or unyank it first"
        )
        raise YankedVersionError(msg)
