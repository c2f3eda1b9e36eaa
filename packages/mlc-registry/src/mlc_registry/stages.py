"""Where a stage has been, read from its history."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_registry.records import Change
    from mlc_registry.versions import Version

__all__ = ["replay"]


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
