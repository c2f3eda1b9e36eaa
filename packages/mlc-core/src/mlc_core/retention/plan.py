"""From a policy to decisions, with the one rule that no policy can switch off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_core.records import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.protocols import RetentionPolicy
    from mlc_core.records import Saved

__all__ = ["decide"]


def decide(policy: RetentionPolicy, saved: Sequence[Saved]) -> tuple[Decision, ...]:
    """Decide about each of *saved*, in order of commit. A pure function: run it as often as you like.

    The latest checkpoint stays if nothing else would: a run is never left with none.
    """
    ordered = sorted(saved, key=lambda one: (one.sequence, one.id))
    kept = dict(policy.keep(ordered))
    if ordered and not any(one.id in kept for one in ordered):
        kept[ordered[-1].id] = "the last one is never removed"
    return tuple(
        Decision(saved=one, keep=one.id in kept, reason=kept.get(one.id, f"not kept by {policy}")) for one in ordered
    )
