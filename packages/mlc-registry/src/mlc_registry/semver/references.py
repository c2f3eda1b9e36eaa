"""How a version is asked for: exactly, by range, by keyword, by stage or by digest; alone or behind a model's name.

One rule reads them all. `@NAME` is a stage; `sha256:` and 64 digits are a digest; `latest` and `newest` are keywords;
what reads as a version or a range is one; anything else that can name a stage is a stage. No stage can be named as a
range or a keyword is, so nothing means two things.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs

from mlc_registry.errors import InvalidNameError, InvalidRangeError, InvalidReferenceError
from mlc_registry.names import KEYWORDS, check_model, check_stage
from mlc_registry.requirements import require_kind, require_text
from mlc_registry.semver.ranges import Range
from mlc_registry.semver.versions import Version

if TYPE_CHECKING:
    from typing import Literal

__all__ = ["Reference", "parse_reference", "read_reference"]

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@attrs.frozen
class Reference:
    """A way to say which version of a model is meant."""

    text: str
    """As it was written."""
    kind: Literal["exact", "range", "latest", "newest", "stage", "digest"]
    stage: str = ""
    """The stage's name, if *kind* is "stage"."""
    range: Range | None = None
    """The range, if *kind* is "range", "exact" or "latest"."""
    digest: str = ""
    """The digest of the version's files, if *kind* is "digest"."""

    @property
    def exact(self) -> Version | None:
        """The version, if *kind* is "exact"."""
        return self.range.exact if self.range is not None else None

    def __str__(self) -> str:
        """Return the reference as it was written."""
        return self.text


def parse_reference(text: str) -> tuple[str, Reference]:
    """Return the model and the reference that `NAME@REFERENCE` names; `NAME` alone means its latest version.

    Raises:
        InvalidNameError: If the part before the first `@` cannot name a model.
        InvalidReferenceError: If the part behind it is no reference.
    """
    name, at, reference = require_text(text, "a reference", error=InvalidReferenceError).partition("@")
    if at and not reference:
        msg = f"{text!r} ends where a version should stand; write {name}@latest, {name}@^1 or {name}@production"
        raise InvalidReferenceError(msg)
    return check_model(name), read_reference(reference or "latest")


def read_reference(wanted: str | Version | Reference, *, include_prereleases: bool = False) -> Reference:
    """Return the reference that *wanted* is.

    Raises:
        InvalidReferenceError: If it is none.
    """
    if isinstance(wanted, (Version, Reference)):
        return _read(str(wanted), include_prereleases)
    way = "a text, as '1.10', since a number has lost its zeros,"
    require_kind(wanted, str, way, error=InvalidReferenceError)
    return _read(require_text(wanted, "a reference", error=InvalidReferenceError), include_prereleases)


@lru_cache(maxsize=1024)
def _read(text: str, include_prereleases: bool) -> Reference:  # noqa: FBT001 - the cache is quicker without keywords
    if text.startswith("@"):
        return Reference(text, "stage", stage=_check_stage(text, text[1:]))
    if text.startswith("sha256:"):
        if DIGEST.fullmatch(text) is None:
            msg = f"{text[:80]!r} is no digest: write sha256: and all of its 64 hexadecimal digits, in small letters"
            raise InvalidReferenceError(msg)
        return Reference(text, "digest", digest=text)
    if text == "newest":
        return Reference(text, "newest")
    if text == "latest":
        return Reference(text, "latest", range=Range.parse("*", include_prereleases=include_prereleases))
    if not text.strip():
        msg = f"{text!r} says no version; write * for any, or latest"  # npm reads it as *, and a typing error looks so
        raise InvalidReferenceError(msg)
    try:
        found = Range.parse(text, include_prereleases=include_prereleases)
    except InvalidRangeError as error:
        if text[:1].isalpha() and not any(sign in text for sign in ".*<>=^~| "):
            return Reference(text, "stage", stage=_check_stage(text, text))
        msg = f"{error}. A reference may also be an exact version, {', '.join(KEYWORDS)} or a stage, as in @production"
        raise InvalidReferenceError(msg) from error
    return Reference(text, "range" if found.exact is None else "exact", range=found)


def _check_stage(text: str, name: str) -> str:
    try:
        return check_stage(name)
    except InvalidNameError as error:
        msg = f"{text!r} is no reference: {error}"
        raise InvalidReferenceError(msg) from error
