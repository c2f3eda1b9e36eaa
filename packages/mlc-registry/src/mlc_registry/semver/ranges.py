"""Ranges of versions, and the intervals of sort keys that they are."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import attrs

from mlc_registry.errors import InvalidRangeError
from mlc_registry.requirements import require_kind
from mlc_registry.semver.comparators import Comparator, read_alternatives

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_registry.semver.versions import Version

__all__ = ["Interval", "Range"]


@attrs.frozen
class Interval:
    """The versions whose sort keys are at least *low* and below *high*; without *prereleases*, only the releases."""

    low: bytes
    high: bytes
    prereleases: bool

    def __contains__(self, version: Version) -> bool:
        return self.low <= version.key < self.high and (self.prereleases or not version.is_prerelease)


EVERYTHING = (b"", b"\xff")  # a key starts with the length of a number, which is never 255


@attrs.frozen
class Range:
    """A range as npm reads it: `^1.2`, `~1.2.3`, `1.x`, `1.2 - 1.4`, `>=1 <2 || 3.x`.

    A pre-release is in it only if a condition that it meets names a pre-release of the same major.minor.patch, or if
    the range was parsed to *include_prereleases*.
    """

    text: str
    alternatives: tuple[tuple[Comparator, ...], ...]
    include_prereleases: bool = False
    intervals: tuple[Interval, ...] = attrs.field(init=False, repr=False, eq=False)
    """The same versions as intervals of sort keys, each one seek in an index."""

    @intervals.default
    def _compile(self) -> tuple[Interval, ...]:
        found = (one for alternative in self.alternatives for one in self._compile_alternative(alternative))
        return tuple(dict.fromkeys(one for one in found if one.low < one.high))

    @classmethod
    def parse(cls, text: str, *, include_prereleases: bool = False) -> Range:
        """Return the range that *text* is.

        Raises:
            InvalidRangeError: If it is not one; names the part that cannot be read.
        """
        require_kind(text, str, "a range of versions, as the text '^1.10',", error=InvalidRangeError)
        return _parse(text, include_prereleases)

    @property
    def exact(self) -> Version | None:
        """The version, if one full version is all that the range says."""
        if len(self.alternatives) == 1 and len(self.alternatives[0]) == 1:
            only = self.alternatives[0][0]
            return only.version if only.operator == "=" else None
        return None

    def __contains__(self, version: Version) -> bool:
        return any(self._admits(alternative, version) for alternative in self.alternatives)

    def __str__(self) -> str:
        """Return the range as it was written."""
        return self.text

    def _admits(self, alternative: Sequence[Comparator], version: Version) -> bool:
        if not all(version in one for one in alternative):
            return False
        if self.include_prereleases or not version.is_prerelease:
            return True
        return any(one.version.is_prerelease and one.version.core == version.core for one in alternative)

    def _compile_alternative(self, alternative: Sequence[Comparator]) -> list[Interval]:
        low, high = EVERYTHING
        for one in alternative:
            key = one.version.key
            after = key + b"\x00"  # no key is the beginning of another, so nothing lies between the two
            if one.operator in {"=", ">=", ">"}:
                low = max(low, after if one.operator == ">" else key)
            if one.operator in {"=", "<=", "<"}:
                high = min(high, key if one.operator == "<" else after)
        found = [Interval(low, high, prereleases=self.include_prereleases)]
        if not self.include_prereleases:
            for named in (one.version for one in alternative if one.version.is_prerelease):
                lowest, release = named.first_prerelease.key, named.release.key
                found.append(Interval(max(low, lowest), min(high, release), prereleases=True))
        return found


@lru_cache(maxsize=1024)
def _parse(text: str, include_prereleases: bool) -> Range:  # noqa: FBT001 - the cache is quicker without keywords
    return Range(text, read_alternatives(text, include_prereleases=include_prereleases), include_prereleases)
