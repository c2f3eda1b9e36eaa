"""From a policy to decisions, with the one rule that no policy can switch off."""

from __future__ import annotations

from operator import attrgetter, lt
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
    ordered = _in_order(saved)
    kept = dict(policy.keep(ordered))
    held = frozenset(pinned)
    if held:
        kept |= {one.id: f"pinned; {kept[one.id]}" if one.id in kept else "pinned" for one in ordered if one.id in held}
    if ordered and not any(one.id in kept for one in ordered):
        kept[ordered[-1].id] = "the last one is never removed"
    otherwise = f"not kept by {policy}"  # once: a policy may be long, and checkpoints many
    return tuple(Decision(saved=one, keep=one.id in kept, reason=kept.get(one.id, otherwise)) for one in ordered)


def _in_order(saved: Sequence[Saved]) -> Sequence[Saved]:
    sequences = [one.sequence for one in saved]
    if all(map(lt, sequences, sequences[1:])):  # as an index has them; sorting many takes its time even then
        return saved
    return sorted(saved, key=attrgetter("sequence", "id"))
