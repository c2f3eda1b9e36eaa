"""npm's grammar of ranges, read into conditions with full versions.

What npm takes and this refuses: two operators (`~> > 1.0`), text glued to a star (`1.2.3>*`), blanks that are not
ASCII, pre-release numbers above 2**53 - 1, and more than 1024 characters.
"""

from __future__ import annotations

import operator
import re
from typing import NoReturn

import attrs

from mlc_registry.errors import InvalidRangeError, InvalidVersionError
from mlc_registry.semver.versions import NUMBER, PRERELEASE, Version

__all__ = ["Comparator", "read_alternatives"]

LONGEST = 1024
"""Characters in a range."""

IDENTIFIER = rf"{NUMBER}|[xX*]"
PARTIAL = rf"({IDENTIFIER})(?:\.({IDENTIFIER})(?:\.({IDENTIFIER})(?:-({PRERELEASE}))?)?)?"
# `> =v1` is `>=v1` to npm, so what stands before the number is read whole and split when its blanks are gone.
COMPARATOR = re.compile(rf"([\^~]? ?[<>]?=? ?[v=]*){PARTIAL}(?= |$)", re.ASCII)
LEAD = re.compile(r"(\^|~>?|[<>]?=?)([v=]*)")
HYPHEN = re.compile(rf"([v= ]*){PARTIAL} - ([v= ]*){PARTIAL}", re.ASCII)
BUILD = re.compile(r"\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*", re.ASCII)
BLANKS = re.compile(r"[ \t\n\v\f\r]+")

HOLDS = {"<": operator.lt, "<=": operator.le, "=": operator.eq, ">=": operator.ge, ">": operator.gt}


@attrs.frozen
class Comparator:
    """One condition of a range: an operator and a full version."""

    operator: str
    version: Version

    def __contains__(self, version: Version) -> bool:
        return bool(HOLDS[self.operator](version, self.version))


Alternative = tuple[Comparator, ...]


@attrs.frozen
class _Partial:
    """A version of which the end may be missing or a wildcard."""

    text: str
    prefix: str
    major: int | None
    minor: int | None
    patch: int | None
    prerelease: str | None

    @classmethod
    def of(cls, text: str, prefix: str, *numbers: str | None) -> _Partial:
        *core, prerelease = numbers
        major, minor, patch = (None if one is None or one in "xX*" else int(one) for one in core)
        return cls(text, prefix, major, minor, patch, prerelease)

    @property
    def is_full(self) -> bool:
        return None not in {self.major, self.minor, self.patch}

    @property
    def lowest(self) -> tuple[int, int, int]:
        """The first version that it covers."""
        if self.minor is None:
            return self.major or 0, 0, 0
        return self.major or 0, self.minor, self.patch or 0

    @property
    def above(self) -> tuple[int, int, int]:
        """The first release after all that a partial version covers."""
        major, minor, _ = self.lowest
        return (major + 1, 0, 0) if self.minor is None else (major, minor + 1, 0)


def read_alternatives(text: str, *, include_prereleases: bool) -> tuple[Alternative, ...]:
    """Return the alternatives of the range *text*, each a tuple of conditions that must all hold.

    Raises:
        InvalidRangeError: If npm would refuse it; names the part that cannot be read.
    """
    if len(text) > LONGEST:
        msg = f"a range of {len(text)} characters is too long: {LONGEST} is the limit"
        raise InvalidRangeError(msg)
    try:
        alternatives = tuple(_Reader(text, include_prereleases=include_prereleases).read())
    except InvalidVersionError as error:
        msg = f"{text!r} is no range of versions: {error}"
        raise InvalidRangeError(msg) from error
    # To npm one alternative without conditions makes the whole range `*`, and the others' pre-releases are out again.
    return ((),) if () in alternatives else alternatives


class _Reader:
    """Desugars one range as npm's `Range` does."""

    def __init__(self, text: str, *, include_prereleases: bool) -> None:
        self._text = text
        self._all = include_prereleases
        self._floor = "0" if include_prereleases else None  # does 1.2 start at 1.2.0 or at its first pre-release?

    def read(self) -> list[Alternative]:
        return [self._read_alternative(part) for part in self._text.split("||")]

    def _read_alternative(self, text: str) -> Alternative:
        text = BUILD.sub("", BLANKS.sub(" ", text)).strip(" ")
        hyphen = HYPHEN.fullmatch(text)
        if hyphen is not None:
            lower = _Partial.of(text, hyphen[1].lstrip(" "), *hyphen.groups()[1:5])
            upper = _Partial.of(text, hyphen[6], *hyphen.groups()[6:])
            return (*self._read_from(lower), *self._read_to(upper))
        found: list[Comparator] = []
        place = 0
        while place < len(text):
            part = COMPARATOR.match(text, place)
            lead = part and LEAD.fullmatch(part[1].replace(" ", ""))
            if part is None or lead is None:
                self._refuse(text[place:].partition(" ")[0])
            found += self._read_comparator(lead[1], _Partial.of(part[0], lead[2], *part.groups()[1:]))
            place = part.end() + 1
        return tuple(found)

    def _read_comparator(self, operator: str, partial: _Partial) -> Alternative:
        if operator == "^":
            return self._read_caret(partial)
        if operator.startswith("~"):
            return self._read_tilde(partial)
        if partial.is_full:
            return self._compare(operator or "=", partial)
        if partial.patch is not None or (partial.major is None and partial.minor is not None):
            self._refuse(partial.text)
        return self._read_wildcard(operator, partial)

    def _read_wildcard(self, operator: str, partial: _Partial) -> Alternative:
        if partial.major is None:
            return (Comparator("<", LOWEST),) if operator in {"<", ">"} else ()
        if operator == "<":
            return self._below(partial.lowest)
        if operator == "<=":
            return self._below(partial.above)
        if operator == ">":
            return self._at_least(partial.above)
        if operator == ">=":
            return self._at_least(partial.lowest)
        return (*self._at_least(partial.lowest), *self._below(partial.above))

    def _read_caret(self, partial: _Partial) -> Alternative:
        """Read up to the next change of the leftmost number that is not zero."""
        major, minor, patch = partial.lowest
        if partial.major is None:
            return ()
        if major or partial.minor is None:
            above = (major + 1, 0, 0)
        elif minor or partial.patch is None:
            above = (0, minor + 1, 0)
        else:
            above = (0, 0, patch + 1)
        return (*self._start(partial), *self._below(above))

    def _read_tilde(self, partial: _Partial) -> Alternative:
        """Read up to the next minor version, or the next major one if only a major one was given."""
        if partial.major is None:
            return ()
        return (*self._start(partial), *self._below(partial.above))

    def _read_from(self, partial: _Partial) -> Alternative:
        if partial.major is None:
            return ()
        if not partial.is_full:
            return self._at_least(partial.lowest)
        if self._all and partial.prerelease is None:
            partial = attrs.evolve(partial, prerelease="0")
        return self._compare(">=", partial)

    def _read_to(self, partial: _Partial) -> Alternative:
        if partial.major is None:
            return ()
        if not partial.is_full:
            return self._below(partial.above)
        if partial.prerelease is not None:
            return self._compare("<=", attrs.evolve(partial, prefix=""))
        if self._all:
            major, minor, patch = partial.lowest
            return self._below((major, minor, patch + 1))
        return self._compare("<=", partial)

    def _start(self, partial: _Partial) -> Alternative:
        if not partial.is_full:
            return self._at_least(partial.lowest)
        return self._compare(">=", attrs.evolve(partial, prefix=""))

    def _at_least(self, core: tuple[int, int, int]) -> Alternative:
        version = _version(core, self._floor)
        # To npm `>=0.0.0` is no condition at all: it does not shut out the pre-releases of 0.0.0.
        return () if core == (0, 0, 0) else (Comparator(">=", version),)

    def _below(self, core: tuple[int, int, int]) -> Alternative:
        return (Comparator("<", _version(core, "0")),)  # and below its pre-releases: 2.0.0-rc.1 is not in ^1

    def _compare(self, operator: str, partial: _Partial) -> Alternative:
        if partial.prefix not in {"", "v"}:
            self._refuse(partial.text)
        version = _version(partial.lowest, partial.prerelease)
        if (operator, version.key, partial.prefix, self._all) == (">=", ZERO.key, "", False):
            return ()
        return (Comparator(operator, version),)

    def _refuse(self, part: str) -> NoReturn:
        place = self._text.find(part)
        where = f" at character {place + 1}" if place >= 0 else ""
        msg = (
            f"{self._text!r} is no range of versions: {part!r}{where} cannot be read. "
            "Ranges look like ^1.2, ~1.2.3, 1.x, 1.2 - 1.4 or >=1.2 <2 || 3.x"
        )
        raise InvalidRangeError(msg)


def _version(core: tuple[int, int, int], prerelease: str | None) -> Version:
    text = "{}.{}.{}".format(*core)
    return Version.parse(text if prerelease is None else f"{text}-{prerelease}")


ZERO = Version(0, 0, 0)
LOWEST = Version(0, 0, 0, (0,))
