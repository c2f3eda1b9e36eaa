"""One version of every model that is needed, so that everybody gets one in the range that it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs

from mlc_registry.errors import DependencyError
from mlc_registry.semver.ranges import Interval, Range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mlc_registry.records import ModelVersion
    from mlc_registry.semver.versions import Version

__all__ = ["ImpossibleError", "Solution", "Versions", "Wish", "overlap", "solve"]

ROUNDS = 20_000
"""Steps after which the search is given up; a hundred models that fit take a hundred."""


class Versions(Protocol):
    """What there is to choose from; every `Store` is one."""

    def find(self, model: str, version: Version) -> ModelVersion | None:
        """Return the version of equal precedence, yanked or not."""
        ...

    def highest(self, model: str, intervals: Sequence[Interval]) -> ModelVersion | None:
        """Return the highest version in any of *intervals* that is not yanked."""
        ...


@attrs.frozen
class Wish:
    """Somebody's need of a version of a model."""

    model: str
    text: str
    """As it was written."""
    range: Range
    by: str = ""
    """The version that depends on it, as in `app 2.1.0`; nothing if it was asked for itself."""
    by_model: str = ""

    @classmethod
    def of(cls, published: ModelVersion, *, include_prereleases: bool = False) -> list[Wish]:
        """Return what *published* depends on, by name."""
        return [
            cls(
                name,
                text,
                Range.parse(text, include_prereleases=include_prereleases),
                f"{published.model} {published.version}",
                published.model,
            )
            for name, text in sorted(published.dependencies.items())
        ]


@attrs.frozen
class Solution:
    """What was chosen, and for whom."""

    chosen: Mapping[str, ModelVersion]
    """By the name of the model, sorted."""
    wishes: Mapping[str, tuple[Wish, ...]]
    """Who needed each, and by which range."""


class ImpossibleError(DependencyError):
    """No choice of versions fits; the message is for those who look at the search itself."""

    def __init__(self, message: str, causes: Sequence[Wish]) -> None:
        super().__init__(message)
        self.causes = causes
        """The wishes that met last and did not fit."""


def solve(
    versions: Versions,
    wishes: Sequence[Wish],
    *,
    preferred: Mapping[str, Version] | None = None,
    include_prereleases: bool = False,
    rounds: int = ROUNDS,
) -> Solution:
    """Choose one version of each model for *wishes* and for what the chosen depend on, the highest that fit.

    Where there is a choice between models, the first of *wishes* gets the higher version. Models in *preferred* stay at
    that version where it fits. A range never means a yanked version, but an exact version may; what *wishes* ask for
    exactly, or *preferred* has, is good enough for every range that it is in.

    Raises:
        ImpossibleError: If there is no such choice, or none was found in so many *rounds*.
    """
    from resolvelib import BaseReporter, ResolutionImpossible, ResolutionTooDeep, Resolver  # few processes resolve

    provider: Any = _Provider(versions, wishes, preferred or {}, include_prereleases=include_prereleases)
    try:
        found = Resolver(provider, BaseReporter()).resolve(wishes, max_rounds=rounds)
    except ResolutionImpossible as error:
        causes = tuple(dict.fromkeys(one.requirement for one in error.causes))
        msg = f"no versions fit together: {', '.join(f'{one.model} {one.text}' for one in causes)}"
        raise ImpossibleError(msg, causes) from None
    except ResolutionTooDeep:
        msg = f"no versions that fit together were found in {rounds:,} steps; ask for narrower ranges"
        raise ImpossibleError(msg, ()) from None
    pins = {name: candidate.published for name, candidate in found.mapping.items()}
    return _collect(pins, wishes, include_prereleases=include_prereleases)


def overlap(ranges: Iterable[Range]) -> tuple[Interval, ...]:
    """Return the intervals of the versions that are in all of *ranges*."""
    found: tuple[Interval, ...] | None = None
    for one in ranges:
        if found is None:
            found = one.intervals
            continue
        met = (
            Interval(max(a.low, b.low), min(a.high, b.high), prereleases=a.prereleases and b.prereleases)
            for a in found
            for b in one.intervals
        )
        found = tuple(dict.fromkeys(each for each in met if each.low < each.high))
    return found or ()


@attrs.frozen
class _Candidate:
    """A version, told apart by its number alone."""

    model: str
    key: bytes
    published: ModelVersion = attrs.field(eq=False)

    @classmethod
    def of(cls, published: ModelVersion) -> _Candidate:
        return cls(published.model, published.version.key, published)


def _collect(pins: Mapping[str, ModelVersion], wishes: Sequence[Wish], *, include_prereleases: bool) -> Solution:
    chosen: dict[str, ModelVersion] = {}
    needed: dict[str, list[Wish]] = {}
    waiting = list(wishes)
    while waiting:
        wish = waiting.pop(0)
        needed.setdefault(wish.model, []).append(wish)
        if wish.model not in chosen:
            chosen[wish.model] = pins[wish.model]
            waiting += Wish.of(chosen[wish.model], include_prereleases=include_prereleases)
    return Solution(
        {name: chosen[name] for name in sorted(chosen)},
        {name: tuple(sorted(needed[name], key=lambda one: (one.by, one.text))) for name in sorted(needed)},
    )


class _Downwards:
    """The versions in some intervals, the highest first: each is looked for when it is asked for, and only once."""

    def __init__(self, versions: Versions, model: str, intervals: Sequence[Interval]) -> None:
        self._versions = versions
        self._model = model
        self._left = tuple(intervals)
        self._found: list[_Candidate] = []

    def __iter__(self) -> Iterator[_Candidate]:
        place = 0
        while place < len(self._found) or self._look():
            yield self._found[place]
            place += 1

    def _look(self) -> bool:
        found = self._versions.highest(self._model, self._left) if self._left else None
        if found is None:
            self._left = ()
            return False
        capped = (attrs.evolve(one, high=min(one.high, found.version.key)) for one in self._left)
        self._left = tuple(one for one in capped if one.low < one.high)
        self._found.append(_Candidate.of(found))
        return True


class _Provider:
    """What `resolvelib` asks; it does not inherit from its base class, as few processes load it."""

    def __init__(
        self, versions: Versions, wishes: Sequence[Wish], preferred: Mapping[str, Version], *, include_prereleases: bool
    ) -> None:
        self._versions = versions
        self._preferred = preferred
        self._include = include_prereleases
        self._places = {one.model: place for place, one in reversed(list(enumerate(wishes)))}
        self._may_be_yanked = {(one.model, one.range.exact) for one in wishes} | set(preferred.items())
        self._listed: dict[tuple[str, tuple[Interval, ...]], _Downwards] = {}

    def identify(self, requirement_or_candidate: Wish | _Candidate) -> str:
        return requirement_or_candidate.model

    def get_preference(self, identifier: str, *_: Any, **__: Any) -> tuple[int, str]:
        return self._places.get(identifier, len(self._places)), identifier

    def narrow_requirement_selection(self, identifiers: Iterable[str], *_: Any, **__: Any) -> Iterable[str]:
        return identifiers

    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[Wish]],
        incompatibilities: Mapping[str, Iterator[_Candidate]],
    ) -> Callable[[], Iterator[_Candidate]]:
        needs = list(requirements[identifier])
        refused = set(incompatibilities[identifier])
        return lambda: (one for one in self._list(identifier, needs) if one not in refused)

    def is_satisfied_by(self, requirement: Wish, candidate: _Candidate) -> bool:
        published = candidate.published
        if published.version not in requirement.range:
            return False
        asked_for = requirement.range.exact is not None or (published.model, published.version) in self._may_be_yanked
        return asked_for or not published.yanked

    def get_dependencies(self, candidate: _Candidate) -> list[Wish]:
        return Wish.of(candidate.published, include_prereleases=self._include)

    def _list(self, name: str, needs: list[Wish]) -> Iterator[_Candidate]:
        exact = next((one.range.exact for one in needs if one.range.exact is not None), None)
        first = self._find(name, exact or self._preferred.get(name), needs)
        if first is not None:
            yield first
        if exact is None:
            intervals = overlap(one.range for one in needs)
            others = self._listed.setdefault((name, intervals), _Downwards(self._versions, name, intervals))
            yield from (one for one in others if one != first)

    def _find(self, name: str, version: Version | None, needs: list[Wish]) -> _Candidate | None:
        found = None if version is None else self._versions.find(name, version)
        if found is None or found.removed:
            return None
        candidate = _Candidate.of(found)
        return candidate if all(self.is_satisfied_by(one, candidate) for one in needs) else None
