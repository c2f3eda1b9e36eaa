"""From a policy to decisions, with the one rule that no policy can switch off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_core.records import Decision

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mlc_core.protocols import RetentionPolicy
    from mlc_core.records import Saved

__all__ = ["decide"]


def decide(policy: RetentionPolicy, saved: Sequence[Saved], *, pinned: Collection[str] = ()) -> tuple[Decision, ...]:
    """Decide about each of *saved*, in order of commit. A pure function: run it as often as you like.

    Those whose ids are *pinned* stay. The latest checkpoint stays if nothing else would: a run is never left with none.
    """
    ordered = sorted(saved, key=lambda one: (one.sequence, one.id))
    kept = dict(policy.keep(ordered))
    for one in ordered:
        if one.id in pinned:
            kept[one.id] = f"pinned; {kept[one.id]}" if one.id in kept else "pinned"
    if ordered and not any(one.id in kept for one in ordered):
        kept[ordered[-1].id] = "the last one is never removed"
    return tuple(
        Decision(saved=one, keep=one.id in kept, reason=kept.get(one.id, f"not kept by {policy}")) for one in ordered
    )
