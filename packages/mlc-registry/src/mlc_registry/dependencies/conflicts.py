"""Why versions cannot be had together, in words, and the nearest way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from mlc_registry.dependencies.resolving import ImpossibleError, Wish, overlap, solve
from mlc_registry.semver.ranges import Range

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_registry.protocols import Store
    from mlc_registry.records import ModelVersion

__all__ = ["explain_conflict"]

TRIALS = 10
"""How many wishes are loosened one by one to find a way out."""
ROUNDS = 500
"""How long each of them is tried."""
STEPS = 50


def explain_conflict(
    store: Store, wishes: Sequence[Wish], error: ImpossibleError, *, include_prereleases: bool = False
) -> str:
    """Return what there is to say of *wishes* that cannot be had together, for the reason that *error* has."""
    asked = ", ".join(f"{one.model}@{one.text}" for one in wishes)
    if not error.causes:
        return f"{asked}: {error}"
    meeting = _find_conflict(store, wishes, include_prereleases=include_prereleases) or error.causes
    lines = [f"{asked} cannot be had{' together' if len(wishes) > 1 else ''}:"]
    for name in dict.fromkeys(one.model for one in meeting):
        needs = [one for one in meeting if one.model == name]
        lines += [f"  {_who(one)} {one.model} {one.text} ({_best(store, one)})" for one in needs]
        if len(needs) > 1:
            both = "both" if len(needs) == 2 else f"all {len(needs)}"
            lines.append(f"  no version of {name} is in {both}")
    lines.append(f"  {_way_out(store, wishes, include_prereleases=include_prereleases)}")
    return "\n".join(lines)


def _find_conflict(store: Store, wishes: Sequence[Wish], *, include_prereleases: bool) -> Sequence[Wish]:
    """Choose the highest of everything until somebody's needs cannot be met; return the needs that meet there."""
    chosen: dict[str, ModelVersion] = {}
    for _ in range(STEPS):
        needs: dict[str, list[Wish]] = {}
        waiting = list(wishes)
        while waiting:
            wish = waiting.pop(0)
            is_new = wish.model not in needs
            needs.setdefault(wish.model, []).append(wish)
            if is_new and wish.model in chosen:
                waiting += Wish.of(chosen[wish.model], include_prereleases=include_prereleases)
        now = {name: _highest(store, of_model) for name, of_model in needs.items()}
        for name, found in now.items():
            if found is None:
                return needs[name]
        settled = {name: found for name, found in now.items() if found is not None}
        if _numbers(settled) == _numbers(chosen):
            break
        chosen = settled
    return ()


def _numbers(chosen: Mapping[str, ModelVersion]) -> dict[str, str]:
    return {name: str(one.version) for name, one in chosen.items()}


def _highest(store: Store, needs: Sequence[Wish]) -> ModelVersion | None:
    exact = next((one.range.exact for one in needs if one.range.exact is not None), None)
    if exact is None:
        return store.highest(needs[0].model, overlap(one.range for one in needs))
    found = store.find(needs[0].model, exact)
    usable = found is not None and not found.removed and all(found.version in one.range for one in needs)
    return found if usable else None


def _who(wish: Wish) -> str:
    return f"{wish.by} needs" if wish.by else "asked for is"


def _best(store: Store, wish: Wish) -> str:
    found = _highest(store, [wish])
    if found is not None:
        return f"{found.version} is the highest" if wish.range.exact is None else "which is there"
    yanked = store.highest(wish.model, wish.range.intervals, yanked=True)
    if yanked is not None:
        return f"{yanked.version} would be in it, but was {'removed' if yanked.removed else 'yanked'}"
    highest = store.highest(wish.model, Range.parse("*").intervals)
    return "nothing is in it" + (f"; the highest there is is {highest.version}" if highest is not None else "")


def _way_out(store: Store, wishes: Sequence[Wish], *, include_prereleases: bool) -> str:
    """Return the first loosening of one wish that makes all of it possible; it was tried, so it is true."""
    for place, wish in list(enumerate(wishes))[:TRIALS]:
        anything = attrs.evolve(wish, text="*", range=Range.parse("*", include_prereleases=include_prereleases))
        loosened = [*wishes[:place], anything, *wishes[place + 1 :]]
        try:
            found = solve(store, loosened, include_prereleases=include_prereleases, rounds=ROUNDS)
        except ImpossibleError:
            continue
        version = found.chosen[wish.model].version
        return f"With {wish.model} {version} instead of {wish.text} it can be done: ask for {wish.model}@{version}"
    if not include_prereleases:
        every = [attrs.evolve(one, range=Range.parse(one.range.text, include_prereleases=True)) for one in wishes]
        try:
            solve(store, every, include_prereleases=True, rounds=ROUNDS)
        except ImpossibleError:
            pass
        else:
            return "With pre-releases it can be done: say include_prereleases=True (--pre)"
    return "No other version of one model alone would help: publish one that fits, or ask for less"
