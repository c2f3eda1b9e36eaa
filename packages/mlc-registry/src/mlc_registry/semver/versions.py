"""Semantic versions, exactly as semver.org 2.0.0 has them, and the bytes that sort as they do."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache, total_ordering

import attrs

from mlc_registry.errors import InvalidVersionError, LooseVersionWarning
from mlc_registry.requirements import show

__all__ = ["LARGEST_NUMBER", "LONGEST", "PRERELEASE", "Version"]

LONGEST = 256
"""Characters in a version: npm's limit, so that a version valid here is valid everywhere."""
LARGEST_NUMBER = 2**53 - 1
"""The largest number in a version: what every JSON reader can tell from its neighbours."""

NUMBER = r"0|[1-9][0-9]*"
PRERELEASE = rf"(?:[0-9]*[A-Za-z-][0-9A-Za-z-]*|{NUMBER})(?:\.(?:[0-9]*[A-Za-z-][0-9A-Za-z-]*|{NUMBER}))*"
BUILD = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
DIGITS, WORD = re.compile(r"[0-9]+"), re.compile(r"[0-9A-Za-z-]+")
SEMVER = re.compile(rf"({NUMBER})\.({NUMBER})\.({NUMBER})(?:-({PRERELEASE}))?(?:\+({BUILD}))?", re.ASCII)
LOOSE = re.compile(rf"[vV]?({NUMBER})(?:\.({NUMBER}))?(?:\.({NUMBER}))?(-{PRERELEASE})?(\+{BUILD})?", re.ASCII)

# The marks of the sort key. Their order is the order of the specification: end of list < number < text < release.
END, PRE, NUMERIC, TEXT, RELEASE = b"\x00", b"\x01", b"\x02", b"\x03", b"\xff"


@total_ordering
@attrs.frozen(eq=False, repr=False)
class Version:
    """A semantic version. Comparing is by precedence, so `1.0.0+a == 1.0.0+b`: build metadata does not count."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[int | str, ...] = ()
    build: tuple[str, ...] = ()
    key: bytes = attrs.field(init=False)
    """Bytes that compare as the versions do: what databases sort by."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "key", _encode(self.core, self.prerelease))

    @classmethod
    def parse(cls, text: str) -> Version:
        """Return the version that *text* is, by the specification and nothing else.

        Raises:
            InvalidVersionError: If it is not one; says where and why.
        """
        return _parse(_check_kind(text))

    @classmethod
    def read(cls, text: str | Version) -> Version:
        """Return the version that *text* means: `v1.0` is read as 1.0.0, and a `LooseVersionWarning` says so.

        Raises:
            InvalidVersionError: If no version can be meant.
        """
        if isinstance(text, Version):
            return text
        _check_kind(text)
        loose = LOOSE.fullmatch(text) if SEMVER.fullmatch(text) is None else None
        if loose is None:
            return _parse(text)
        major, minor, patch, prerelease, build = loose.groups()
        version = _parse(f"{major}.{minor or 0}.{patch or 0}{prerelease or ''}{build or ''}")
        warnings.warn(f"version {text!r} is read as {version}", LooseVersionWarning, stacklevel=3)
        return version

    @property
    def core(self) -> tuple[int, int, int]:
        """Major, minor and patch."""
        return self.major, self.minor, self.patch

    @property
    def release(self) -> Version:
        """The release that this is or comes before."""
        return Version(*self.core)

    @property
    def first_prerelease(self) -> Version:
        """The lowest version of the same major.minor.patch."""
        return Version(*self.core, (0,))

    @property
    def is_prerelease(self) -> bool:
        """Whether this comes before the release of its core."""
        return bool(self.prerelease)

    def __str__(self) -> str:
        """Return the version as the specification writes it."""
        text = f"{self.major}.{self.minor}.{self.patch}"
        if self.prerelease:
            text += "-" + ".".join(map(str, self.prerelease))
        return f"{text}+{'.'.join(self.build)}" if self.build else text

    def __repr__(self) -> str:
        """Return a way to make it."""
        return f"Version.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Version) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self.key < other.key if isinstance(other, Version) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)


def _check_kind(text: object) -> str:
    if isinstance(text, str):
        return text
    hint = "; a number has lost its zeros already" if isinstance(text, (int, float)) else ""
    msg = f"{show(text)} is no version: write it as a text, as '1.10.0'{hint}"
    raise InvalidVersionError(msg)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Version:
    found = SEMVER.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        raise InvalidVersionError(_explain(text))
    major, minor, patch, prerelease, build = found.groups()
    parts = prerelease.split(".") if prerelease else ()
    identifiers = tuple(int(part) if part.isdigit() else part for part in parts)
    core = int(major), int(minor), int(patch)
    largest = max(*core, *(part for part in identifiers if isinstance(part, int)))
    if largest > LARGEST_NUMBER:
        msg = f"{text!r} is no usable version: {largest} is larger than {LARGEST_NUMBER}"
        raise InvalidVersionError(msg)
    return Version(*core, identifiers, tuple(build.split(".")) if build else ())


def _encode(core: tuple[int, int, int], prerelease: tuple[int | str, ...]) -> bytes:
    start = b"".join(map(_encode_number, core))
    if not prerelease:
        return start + RELEASE
    marked = (
        NUMERIC + _encode_number(part) if isinstance(part, int) else TEXT + part.encode("ascii") + END
        for part in prerelease
    )
    return start + PRE + b"".join(marked) + END


def _encode_number(number: int) -> bytes:
    length = (number.bit_length() + 7) // 8
    return bytes((length,)) + number.to_bytes(length, "big")


def _explain(text: str) -> str:
    """Return what is wrong with *text*, where, and what would be right."""
    shown = text if len(text) <= 80 else f"{text[:80]}…"
    if len(text) > LONGEST:
        return f"{shown!r} is no version: it has {len(text)} characters, and {LONGEST} is the limit"
    where, why = _find_fault(text)
    return f"{shown!r} is no semantic version: at character {where + 1}, {why}. It looks like 1.4.0 or 2.0.0-rc.1"


def _find_fault(text: str) -> tuple[int, str]:
    place = 0
    for part in ("major", "minor", "patch"):
        if part != "major":
            if text[place : place + 1] != ".":
                return place, f"a dot and the {part} number are missing"
            place += 1
        number = _take(DIGITS, text, place)
        if not number:
            return place, f"{text[place]!r} is no number" if place < len(text) else f"the {part} number is missing"
        if len(number) > 1 and number.startswith("0"):
            return place, f"the {part} number {number!r} starts with a zero"
        place += len(number)
    for mark, part in (("-", "pre-release"), ("+", "build")):
        separators = mark
        while place < len(text) and text[place] in separators:
            place, separators = place + 1, "."
            identifier = _take(WORD, text, place)
            if not identifier:
                return place, f"an identifier of the {part} is missing"
            if mark == "-" and re.fullmatch(r"0[0-9]+", identifier):
                return place, f"the {part} number {identifier!r} starts with a zero"
            place += len(identifier)
    return place, f"{text[place]!r} does not belong"


def _take(pattern: re.Pattern[str], text: str, place: int) -> str:
    found = pattern.match(text, place)
    return found[0] if found else ""
