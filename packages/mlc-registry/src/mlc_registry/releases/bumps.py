"""Which number a version deserves, by what it would break for those who use the one before.

A range such as `^1.2` is a promise: whatever it finds can take the place of 1.2. So what breaks those who load the
weights into the class that they have is major, what they may notice is minor, and other values are a patch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import attrs

from mlc_registry.construction.weights import RECIPE
from mlc_registry.releases.comparisons import LOST
from mlc_registry.releases.schemas import compare
from mlc_registry.semver.versions import Version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlc_registry.releases.comparisons import Composition

__all__ = ["Bump", "Reason", "Suggestion", "judge", "next_version", "suggest_from"]

Bump = Literal["none", "patch", "minor", "major"]
ORDER: tuple[Bump, ...] = ("none", "patch", "minor", "major")


@attrs.frozen
class Reason:
    """One thing that differs, and what it asks for."""

    bump: Bump
    text: str


@attrs.frozen(kw_only=True)
class Suggestion:
    """The number to publish under, and why."""

    version: Version
    bump: Bump
    """"none" if the files and what is said of them are the same."""
    base: Version | None
    """What it was compared with; None if nothing was published before."""
    reasons: tuple[Reason, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "version": str(self.version),
            "bump": self.bump,
            "base": None if self.base is None else str(self.base),
            "reasons": [{"bump": one.bump, "text": one.text} for one in self.reasons],
        }


def judge(before: Composition, after: Composition) -> tuple[Bump, tuple[Reason, ...]]:
    """Return the bump that *after* deserves beside *before*, and everything that asks for one, the worst first."""
    found = [*_judge_class(before, after), *_judge_dependencies(before, after)]
    if _is_recipe(before):
        found += [] if _is_recipe(after) else [Reason("minor", "it has files, and was a class with its configuration")]
    elif _is_recipe(after):
        found.append(Reason("major", "it has no files any more, only a class with its configuration"))
    else:
        found += [*_judge_tensors(before, after), *_judge_files(before, after)]
    found.sort(key=lambda one: -ORDER.index(one.bump))
    return (found[0].bump if found else "none"), tuple(found)


def _is_recipe(one: Composition) -> bool:
    return one.entry == RECIPE and one.architecture is not None


def _judge_tensors(before: Composition, after: Composition) -> Iterator[Reason]:
    if LOST in {before.unlisted, after.unlisted}:
        return
    if before.schema is not None and after.schema is not None:
        diff = compare(before.schema, after.schema)
        if diff.removed:
            yield Reason("major", f"{_count(diff.removed, 'tensor')} removed: {_some(diff.removed)}")
        if diff.added:
            yield Reason("major", f"{_count(diff.added, 'tensor')} added, which the class before has no place for: "
                         f"{_some(diff.added)}")  # fmt: skip
        if diff.renamed:
            yield Reason("major", f"{_count(diff.renamed, 'tensor')} renamed: {_some(diff.renamed)}")
        if diff.reshaped:
            yield Reason("major", f"{_count(diff.reshaped, 'tensor')} of another shape: {_some(diff.reshaped)}")
        if diff.retyped:
            yield Reason("minor", f"{_count(diff.retyped, 'tensor')} of another dtype: {_some(diff.retyped)}")
    elif before.schema is not None:
        yield Reason("major", f"its tensors could be listed, and cannot any more: {after.unlisted}")
    elif after.schema is not None:
        yield Reason("major", "its tensors are safetensors now, and were another format")


def _judge_class(before: Composition, after: Composition) -> Iterator[Reason]:
    was, now = before.architecture, after.architecture
    if was is None and now is not None:
        yield Reason("minor", f"it says its class, {now.model_class}, which nothing did before")
    elif was is not None and now is None:
        yield Reason("major", f"it says no class any more, so nobody can load it by that; it was {was.model_class}")
    elif was is not None and now is not None:
        if was.model_class != now.model_class:
            yield Reason("major", f"the class is {now.model_class}, and was {was.model_class}")
        differing = sorted(
            name
            for name in {*was.config, *now.config}
            if (name in was.config, was.config.get(name)) != (name in now.config, now.config.get(name))
        )
        if differing:
            yield Reason("minor", f"the configuration differs in {', '.join(differing)}")


def _judge_dependencies(before: Composition, after: Composition) -> Iterator[Reason]:
    if before.dependencies != after.dependencies:
        names = sorted(
            name
            for name in {*before.dependencies, *after.dependencies}
            if before.dependencies.get(name) != after.dependencies.get(name)
        )
        yield Reason("minor", f"it depends on other versions of {', '.join(names)}")


def _judge_files(before: Composition, after: Composition) -> Iterator[Reason]:
    if bool(before.entry) != bool(after.entry):
        kinds = ("a directory", "a file") if after.entry else ("a file", "a directory")
        yield Reason("major", f"it is {kinds[1]}, and was {kinds[0]}")
        return
    if before.entry:
        was, now = before.files[before.entry], after.files[after.entry]
        if _suffix(before.entry) != _suffix(after.entry):
            yield Reason("major", f"the file is {after.entry!r}, and was {before.entry!r}")
        elif was.digest != now.digest:
            yield Reason("patch", _say_values(before, after))
        return
    aside = before.training | after.training
    weights = before.weights | after.weights
    gone = sorted(before.files.keys() - after.files.keys() - weights)
    new = sorted(after.files.keys() - before.files.keys() - weights - aside)
    lost = [name for name in gone if name not in aside]
    if lost:
        yield Reason("major", f"{_count(lost, 'file')} removed: {_some(lost)}")
    if len(lost) < len(gone):
        yield Reason(
            "minor", f"training cannot go on as before: {_some([name for name in gone if name in aside])} gone"
        )
    if new:
        yield Reason("minor", f"{_count(new, 'file')} added: {_some(new)}")
    if {one.digest for one in before.files.values()} != {one.digest for one in after.files.values()}:
        yield Reason("patch", _say_values(before, after))


def _say_values(before: Composition, after: Composition) -> str:
    if before.schema is None and after.schema is None:
        return "other content; the tensors cannot be listed, so only you know whether others can still load it"
    return "other values"


def next_version(base: Version, bump: Bump) -> Version:
    """Return the release that *bump* makes of the release *base*.

    While the major version is 0, as with npm's `^0.2`, the minor one tells what breaks, and the patch everything else.
    """
    major, minor, patch = base.core
    if major == 0:
        bump = {"major": "minor", "minor": "patch"}.get(bump, bump)  # type: ignore[assignment]
    if bump == "major":
        return Version(major + 1, 0, 0)
    if bump == "minor":
        return Version(major, minor + 1, 0)
    return Version(major, minor, patch + 1) if bump == "patch" else base.release


def suggest_from(base: Version, promise: Version | None, bump: Bump, reasons: tuple[Reason, ...]) -> Suggestion:
    """Return what to publish, compared with *base*, where *promise* is the last release before *base*, if that is none.

    Pre-releases promise nothing: a pre-release is followed by the next one, as long as the release that it is for is
    far enough from the last release.
    """
    if not base.is_prerelease:
        return Suggestion(version=next_version(base, bump), bump=bump, base=base, reasons=reasons)
    if bump == "none":
        why = Reason("none", f"it is {base}: it may be released as {base.release}")
        return Suggestion(version=base.release, bump="none", base=base, reasons=(*reasons, why))
    needed = base.release if promise is None else next_version(promise, bump)
    if needed <= base.release:
        version = _next_prerelease(base)
        why = Reason(
            "none", f"{base} is a pre-release, which promises nothing: the next one will do, or {base.release}"
        )
    else:
        version = Version(*needed.core, _first_like(base))
        why = Reason("none", f"{base.release} is not far enough from {promise}, the last release")
    return Suggestion(version=version, bump=bump, base=base, reasons=(*reasons, why))


def _next_prerelease(base: Version) -> Version:
    parts = list(base.prerelease)
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        if isinstance(part, int):
            return Version(*base.core, (*parts[:index], part + 1, *parts[index + 1 :]))
    return Version(*base.core, (*parts, 1))


def _first_like(base: Version) -> tuple[int | str, ...]:
    words = [part for part in base.prerelease if isinstance(part, str)]
    return (*words[:1], 1)


def _suffix(name: str) -> str:
    return name.rpartition(".")[2] if "." in name else ""


def _count(things: object, kind: str) -> str:
    number = len(things)  # type: ignore[arg-type]
    return f"{number} {kind}{'' if number == 1 else 's'}"


def _some(names: object) -> str:
    listed = list(names)  # type: ignore[call-overload]
    return ", ".join(listed[:3]) + (", …" if len(listed) > 3 else "")
