"""Where the links `best`, `latest` and the pins should lead, and which of them do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_core.recovery.repairs import LinkRepair
from mlc_core.retention.ranking import rank
from mlc_core.shelf import PIN

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mlc_core.records import Monitor, Saved
    from mlc_core.storage import LocalStorage

__all__ = ["plan_links"]


def plan_links(
    storage: LocalStorage, there: Sequence[Saved], names: Collection[str], monitor: Monitor | None
) -> Sequence[LinkRepair]:
    """Return the links that are to be changed once everything else is done.

    A link of another name that leads to something which exists is somebody's own and is left alone.

    Args:
        storage: Where the links are.
        there: The checkpoints that will be there.
        names: Their names, and those of what is there and cannot be read.
        monitor: What says which is best.
    """
    pointers = storage.pointers()
    ordered = sorted(there, key=lambda one: (one.sequence, one.id))
    repairs = [*_follow(pointers.get("latest"), "latest", ordered[-1].name if ordered else None, "the one saved last")]
    if monitor is not None:
        best = next(iter(rank(ordered, monitor)), None)
        by = f"the best by {monitor.metric} ({monitor.mode})"
        repairs += _follow(pointers.get("best"), "best", best.name if best else None, by)
    for link, entry in sorted(pointers.items()):
        if link == "latest" or (link == "best" and monitor is not None):
            continue
        if entry in names:
            repairs += _rename_pin(pointers, link, names)
        elif entry in storage.entries():
            repairs.append(LinkRepair(link=link, before=entry, after=None, wrong=f"it leads to {entry}, which goes"))
        elif not (storage.location("") / entry).exists():
            wrong = f"it leads to {entry}, which is not there"
            repairs.append(LinkRepair(link=link, before=entry, after=None, wrong=wrong))
    return repairs


def _follow(before: str | None, link: str, after: str | None, meaning: str) -> Sequence[LinkRepair]:
    if before == after:
        return []
    leads = "it is missing" if before is None else f"it leads to {before}"
    wrong = f"{leads}, and no checkpoint is {meaning}" if after is None else f"{leads}, and {meaning} is {after}"
    return [LinkRepair(link=link, before=before, after=after, wrong=wrong)]


def _rename_pin(pointers: Mapping[str, str], link: str, names: Collection[str]) -> Sequence[LinkRepair]:
    """Let a pin be called after what it pins; where its name means another checkpoint, both are pinned."""
    entry = pointers[link]
    right = f"{PIN}{entry}"
    if not link.startswith(PIN) or link == right:
        return []
    wrong = f"it leads to {entry}, after which it is not called"
    meant = link[len(PIN) :]
    repairs = [LinkRepair(link=link, before=entry, after=meant if meant in names else None, wrong=wrong)]
    if right not in pointers:
        missing = f"it is missing, and {link} leads to {entry}"
        repairs.insert(0, LinkRepair(link=right, before=None, after=entry, wrong=missing))
    return repairs
