"""Which versions somebody may still need, and why: a pure function over what is known."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import attrs

from mlc_registry.dependencies.resolving import ImpossibleError, Wish, overlap, solve
from mlc_registry.errors import InvalidRangeError, RetentionError
from mlc_registry.requirements import require_text, show
from mlc_registry.semver.ranges import Range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from mlc_registry.dependencies.locks import Lock
    from mlc_registry.records import ModelVersion
    from mlc_registry.semver.ranges import Interval
    from mlc_registry.semver.versions import Version

__all__ = ["Facts", "Kept", "Plan", "RetentionRule", "plan_retention"]

Key = tuple[str, bytes]
"""A version: the name of its model, and its sort key."""


def _whole(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = f"{attribute.name}={show(value)} must be a count, 0 or more"
        raise RetentionError(msg)


def _positive(_: object, attribute: attrs.Attribute[timedelta], value: object) -> None:
    if not isinstance(value, timedelta) or value < timedelta(0):
        msg = f"{attribute.name}={show(value)} must be a timedelta that is not negative"
        raise RetentionError(msg)


def _flag(_: object, attribute: attrs.Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        msg = f"{attribute.name}={show(value)} must be True or False"
        raise RetentionError(msg)


def _text(_: object, attribute: attrs.Attribute[str], value: object) -> None:
    require_text(value, attribute.name, error=RetentionError)


@attrs.frozen(kw_only=True)
class RetentionRule:
    """What stays beside all that is in use.

    Whatever the rule, these stay: what a stage points to or would be rolled back to, the highest release and what was
    published last of each model, what a version that stays depends on, and what a lock file pins.

    Raises:
        RetentionError: If a count or an age is none.
    """

    keep_releases: int = attrs.field(default=3, validator=_whole)
    """How many releases of each major version, the highest first."""
    keep_prereleases: int = attrs.field(default=3, validator=_whole)
    """How many pre-releases of each model, the highest first."""
    min_age: timedelta = attrs.field(default=timedelta(days=30), validator=_positive)
    """What is younger stays."""
    keep_parents: bool = attrs.field(default=True, validator=_flag)
    """Whether what a version that stays was made from stays, too."""
    keep_tag: str = attrs.field(default="keep", validator=_text)
    """What has a tag of this name stays, whatever its value."""


@attrs.frozen(kw_only=True)
class Facts:
    """What is known at one moment."""

    versions: Mapping[str, Sequence[ModelVersion]]
    """Of each model, the highest first, without those that were removed."""
    newest: Mapping[str, Version | None] = attrs.field(factory=dict)
    """What was published last of each model."""
    staged: Sequence[tuple[str, Version, str]] = ()
    """Versions that a stage needs, and why: where it is, and where it would be rolled back to."""
    tagged: Sequence[tuple[str, Version, str]] = ()
    """Versions that are tagged to stay, and how."""
    locks: Mapping[str, Lock] = attrs.field(factory=dict)
    """Lock files by their path."""

    def find(self, model: str, version: Version) -> ModelVersion | None:
        """Return the version of equal precedence, yanked or not."""
        return next((one for one in self.versions.get(model, ()) if one.version == version), None)

    def highest(self, model: str, intervals: Sequence[Interval]) -> ModelVersion | None:
        """Return the highest version in any of *intervals* that is not yanked."""
        fitting = (
            one
            for one in self.versions.get(model, ())
            if not one.yanked and any(one.version in each for each in intervals)
        )
        return next(fitting, None)


@attrs.frozen(kw_only=True)
class Kept:
    """A version that stays."""

    published: ModelVersion
    reasons: tuple[str, ...]
    """Everything that it is needed for."""


@attrs.frozen(kw_only=True)
class Plan:
    """What would be removed, and why everything else stays."""

    rule: RetentionRule
    removed: tuple[ModelVersion, ...]
    """By model, the highest first."""
    kept: tuple[Kept, ...]
    """By model, the highest first."""
    locks: tuple[str, ...] = ()
    """The lock files that were looked at."""
    unfinished: tuple[ModelVersion, ...] = ()
    """Versions that were removed before, of which files are still there: somebody was killed."""

    @property
    def size(self) -> int:
        """Bytes of all files that would go. Files that others share with them take their space as before."""
        return sum(one.size for one in (*self.removed, *self.unfinished))

    def __bool__(self) -> bool:
        """Return whether there is anything to do."""
        return bool(self.removed or self.unfinished)


def plan_retention(facts: Facts, rule: RetentionRule, *, now: datetime) -> Plan:
    """Return what *rule* would remove at the time *now*, and every reason for which each other version stays."""
    reasons: dict[Key, dict[str, None]] = {}  # as a set that keeps its order
    waiting: list[ModelVersion] = []

    def keep(published: ModelVersion, why: str) -> None:
        key = _key(published)
        if key not in reasons:
            waiting.append(published)
        reasons.setdefault(key, {})[why] = None

    for published, why in _roots(facts, rule, now):
        keep(published, why)
    asked: dict[str, dict[str, Range]] = {}
    while waiting:
        while waiting:
            one = waiting.pop()
            _keep_needs(facts, rule, one, keep)
            for wish in Wish.of(one):
                asked.setdefault(wish.model, {})[wish.text] = wish.range
        for name, ranges in asked.items():  # what suits all who stay at once
            common = facts.highest(name, overlap(ranges.values())) if len(ranges) > 1 else None
            if common is not None:
                keep(common, "the highest that suits everything that stays")
    everything = _everything(facts)
    return Plan(
        rule=rule,
        removed=tuple(one for one in everything if _key(one) not in reasons),
        kept=tuple(
            Kept(published=one, reasons=tuple(reasons[_key(one)])) for one in everything if _key(one) in reasons
        ),
        locks=tuple(facts.locks),
    )


def _roots(facts: Facts, rule: RetentionRule, now: datetime) -> Iterator[tuple[ModelVersion, str]]:
    for model, version, why in (*facts.staged, *facts.tagged):
        found = facts.find(model, version)
        if found is not None:
            yield found, why
    for path, lock in facts.locks.items():
        digests = {(model, one.digest) for model, one in lock.models.items()}
        for one in _everything(facts):  # what is locked is found by its digest: each with these files may be loaded
            if (one.model, one.digest) in digests:
                yield one, f"locked in {path}"
    for model, listed in facts.versions.items():
        yield from _highest(listed, facts.newest.get(model), rule)
    for one in _everything(facts):
        if now - one.created_at < rule.min_age:
            yield one, f"younger than {_shown(rule.min_age)}"


def _highest(
    listed: Sequence[ModelVersion], newest: Version | None, rule: RetentionRule
) -> Iterator[tuple[ModelVersion, str]]:
    usable = [one for one in listed if not one.yanked]
    releases = [one for one in usable if not one.version.is_prerelease]
    yield from ((one, "latest") for one in releases[:1])
    yield from ((one, "newest") for one in usable if one.version == newest)
    for major in dict.fromkeys(one.version.major for one in releases):
        of_major = [one for one in releases if one.version.major == major]
        for one in of_major[: rule.keep_releases]:
            yield one, f"among the {rule.keep_releases} highest of {major}.x"
    prereleases = [one for one in usable if one.version.is_prerelease]
    for one in prereleases[: rule.keep_prereleases]:
        yield one, f"among the {rule.keep_prereleases} highest pre-releases"


def _everything(facts: Facts) -> list[ModelVersion]:
    return [one for _, listed in sorted(facts.versions.items()) for one in listed]


def _keep_needs(
    facts: Facts, rule: RetentionRule, one: ModelVersion, keep: Callable[[ModelVersion, str], None]
) -> None:
    """Keep what *one* needs: the highest in each range, what it resolves to as a whole, and what it was made from."""
    what = f"{one.model} {one.version}"
    wishes = Wish.of(one)
    for wish in wishes:
        exact = wish.range.exact
        found = facts.find(wish.model, exact) if exact else facts.highest(wish.model, wish.range.intervals)
        if found is not None:
            keep(found, f"{what} needs {wish.text}")
    if wishes:
        try:
            chosen = solve(facts, [Wish(one.model, str(one.version), Range.parse(str(one.version)))]).chosen
        except (ImpossibleError, InvalidRangeError):
            chosen = {}
        for each in chosen.values():
            if each is not one:
                keep(each, f"{what} resolves to it")
    if rule.keep_parents and one.parent is not None:
        parent = facts.find(one.parent.model, one.parent.version)
        if parent is not None:
            keep(parent, f"{what} was made from it")


def _key(one: ModelVersion) -> Key:
    return one.model, one.version.key


def _shown(age: timedelta) -> str:
    return f"{age.days} days" if age >= timedelta(days=2) else str(age)
