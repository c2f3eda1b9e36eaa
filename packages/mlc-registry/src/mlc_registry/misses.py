"""What to say when there is nothing: what is close, what exists, and what would fit if it were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks.hints import known_names, nearest
from mlc_registry.errors import ModelNotFoundError, RemovedVersionError, StageNotFoundError, VersionNotFoundError
from mlc_registry.names import KEYWORDS
from mlc_registry.requirements import show
from mlc_registry.semver.ranges import Range

if TYPE_CHECKING:
    from mlc_registry.errors import RegistryError
    from mlc_registry.protocols import Store
    from mlc_registry.records import ModelVersion
    from mlc_registry.semver.references import Reference

__all__ = ["explain_miss", "missing_model", "removed_version"]

SHOWN = 5
SEARCHED = 200


def missing_model(store: Store, name: str) -> ModelNotFoundError:
    """Return the error for a model that is not there."""
    known = [one.name for one in store.list_models()]
    shown = known if len(known) <= 20 else [*known[:20], f"and {len(known) - 20} more"]
    return ModelNotFoundError(f"there is no model {show(name)}.{nearest(name, known)} {known_names('Known', shown)}")


def removed_version(found: ModelVersion) -> RemovedVersionError:
    """Return the error for a version whose files are gone for good."""
    why = found.yank_reason or "no reason was given"
    way = "ask for another version; `get` and `mlc registry history` still tell what it was"
    return RemovedVersionError(f"the files of {found.model} {found.version} were removed for good: {why}; {way}")


def explain_miss(store: Store, name: str, reference: Reference) -> RegistryError:
    """Return the error for a *reference* that leads to no version of the model *name*."""
    highest = store.list_versions(name, limit=SHOWN + 1)
    if not highest:
        return missing_model(store, name)
    if reference.kind == "stage":
        return _missing_stage(store, name, reference)
    usable = [f"{one.version}{_state(one)}" for one in highest]
    more = ", …" if len(usable) > SHOWN else ""
    lines = [f"no version of {name!r} {_claim(reference)}. The highest are: {', '.join(usable[:SHOWN])}{more}"]
    if reference.range is not None and reference.kind != "exact":
        lines += _near_misses(store, name, reference.range)
    return VersionNotFoundError("\n".join(lines))


def _state(found: ModelVersion) -> str:
    if found.removed:
        return " (removed)"
    return " (yanked)" if found.yanked else ""


def _claim(reference: Reference) -> str:
    if reference.kind == "exact":
        return f"is {reference.text}"
    if reference.kind == "digest":
        return f"has the digest {reference.digest}"
    if reference.kind == "latest":
        return "is a release that is not yanked"
    return "is not yanked" if reference.kind == "newest" else f"satisfies {reference.text!r}"


def _near_misses(store: Store, name: str, wanted: Range) -> list[str]:
    lines = []
    every = Range.parse(wanted.text, include_prereleases=True)
    found = store.highest(name, every.intervals)
    if found is not None:
        way = "ask for it exactly, or say include_prereleases=True (--pre)"
        lines.append(f"  {found.version} would, but it is a pre-release: {way}")
    else:
        for one in store.list_versions(name, limit=SEARCHED):
            if one.version.release in wanted and not one.yanked:  # as 2.0.0-rc.1 is below ^2.0.0
                lines.append(f"  {one.version} comes before one that would: ask for it exactly")
                break
    yanked = store.highest(name, wanted.intervals, yanked=True)
    if yanked is not None and yanked.removed:
        lines.append(f"  {yanked.version} would, but its files were removed for good")
    elif yanked is not None:
        why = f" ({yanked.yank_reason})" if yanked.yank_reason else ""
        lines.append(f"  {yanked.version} would, but it was yanked{why}: only asking for it exactly finds it")
    return lines


def _missing_stage(store: Store, name: str, reference: Reference) -> StageNotFoundError:
    known = [one.name for one in store.list_stages(name)]
    hint = nearest(reference.stage, [*known, *KEYWORDS])
    return StageNotFoundError(f"{name!r} has no stage {reference.stage!r}.{hint} {known_names('Stages', known)}")
