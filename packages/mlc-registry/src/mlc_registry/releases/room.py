"""What is told about versions after they were published: notes, tags, differences, and the number for the next one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_hooks.hints import known_names, nearest
from mlc_registry.actors import check_reason, name_actor
from mlc_registry.artifacts.digests import hash_stream, root_digest
from mlc_registry.artifacts.sources import read_source
from mlc_registry.errors import (
    BumpWarning,
    CorruptArtifactError,
    InvalidReferenceError,
    InvalidTagError,
    SourceError,
    StoreError,
)
from mlc_registry.records import File, Note
from mlc_registry.releases.bumps import Reason, Suggestion, judge, next_version, suggest_from
from mlc_registry.releases.changelogs import Changelog, Release
from mlc_registry.releases.comparisons import compare_compositions, read_composition
from mlc_registry.semver.ranges import Range
from mlc_registry.semver.references import read_reference
from mlc_registry.semver.versions import Version
from mlc_registry.tags import check_notes, check_tag, check_tags

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from mlc_registry.artifacts.sources import Member
    from mlc_registry.backend import Backend
    from mlc_registry.protocols import Statements
    from mlc_registry.records import Architecture, Draft, ModelVersion
    from mlc_registry.releases.comparisons import Comparison, Composition

__all__ = ["Releases"]

FIRST = Version(0, 1, 0)
"""What is published first is expected to change."""
PAGE = 100
EVERY = Range.parse("*").intervals


class Releases:
    """Notes, tags, differences and changelogs of the versions in a registry."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    # ------------------------------------------------------------------ notes

    def write_notes(self, name: str, reference: str | Version, text: str, *, actor: str | None = None) -> Note:
        """Keep *text* as the release notes of a version. Notes are never lost: who writes again adds an edition.

        Args:
            name: The model.
            reference: As for `resolve`.
            text: Markdown.
            actor: Who writes; the user of this process unless said otherwise.

        Raises:
            InvalidNoteError: If there is nothing in *text*.
            ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If *reference* leads nowhere.
            InvalidMetadataError: If *text* is too long, or is no valid text.
        """
        check_notes(text)
        who = name_actor(actor)
        found = self._find(name, reference)
        kept = self._statements.state(name, found.version, kind="noted", details=text, actor=who)
        self._backend.refresh()
        return Note(text=kept.details, actor=kept.actor, at=kept.at)

    def notes(self, name: str, reference: str | Version = "latest") -> Sequence[Note]:
        """Return all editions of the release notes of a version; the last one counts.

        Raises:
            ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If *reference* leads nowhere.
        """
        found = self._find(name, reference)
        said = self._statements.list_all(name, found.version, kinds=("noted",))
        return tuple(Note(text=one.details, actor=one.actor, at=one.at) for one in said)

    # ------------------------------------------------------------------ tags

    def tag(
        self,
        name: str,
        reference: str | Version,
        values: Mapping[str, str] | None = None,
        *,
        actor: str | None = None,
        reason: str = "",
        **tags: str,
    ) -> Mapping[str, str]:
        """Set tags of a version, and return all that it has then.

        Args:
            name: The model.
            reference: As for `resolve`.
            values: Tags whose keys are no names in Python, as `team/owner`.
            actor: Who; the user of this process unless said otherwise.
            reason: Why.
            **tags: Tags by key.

        Raises:
            InvalidTagError: If there are none, if one comes twice, or if one cannot be a tag.
            ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If *reference* leads nowhere.
        """
        check_reason(reason)
        twice = sorted(check_tags(values).keys() & tags)
        if twice or not (values or tags):
            msg = f"tag {twice[0]!r} is given twice" if twice else "no tag was given; write team='vision'"
            raise InvalidTagError(msg)
        given: dict[str, Any] = {**(values or {}), **tags}
        for key, value in given.items():
            if value is None:
                msg = f"tag {key!r} cannot be None; untag() takes it off"
                raise InvalidTagError(msg)
        check_tags(given)
        found = self._find(name, reference)
        now = self._statements.set_tags(name, found.version, given, actor=name_actor(actor), reason=reason)
        self._backend.refresh()
        return now

    def untag(
        self, name: str, reference: str | Version, *keys: str, actor: str | None = None, reason: str = ""
    ) -> Mapping[str, str]:
        """Take tags off a version, and return those that it has then.

        Raises:
            InvalidTagError: If it has no such tag; says which are there.
            ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If *reference* leads nowhere.
        """
        check_reason(reason)
        for key in keys:
            check_tag(key)
        found = self._find(name, reference)
        there = self._statements.list_tags(name, found.version)
        for key in keys:
            if key not in there:
                hint = f"{nearest(key, there)} {known_names('Tags', there)}"
                msg = f"{name} {found.version} has no tag {key!r}.{hint}"
                raise InvalidTagError(msg)
        taken: dict[str, str | None] = dict.fromkeys(keys)
        if not taken:
            return there
        now = self._statements.set_tags(name, found.version, taken, actor=name_actor(actor), reason=reason)
        self._backend.refresh()
        return now

    def tags(self, name: str, reference: str | Version = "latest") -> Mapping[str, str]:
        """Return the tags of a version by key.

        Raises:
            ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If *reference* leads nowhere.
        """
        return self._statements.list_tags(name, self._find(name, reference).version)

    # ------------------------------------------------------------------ differences

    def compare(self, name: str, before: str | Version, after: str | Version) -> Comparison:
        """Return how two versions differ: their tensors by name, shape and dtype, and all that is said of them.

        No tensor is read, only the headers of files; whether values differ, the files' digests tell.

        Raises:
            ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If a reference leads nowhere.
        """
        first, second = self._find(name, before), self._find(name, after)
        return compare_compositions(name, first.version, self._read(first), second.version, self._read(second))

    def suggest(
        self,
        name: str,
        path: str | os.PathLike[str],
        base: str | Version = "latest",
        *,
        architecture: Architecture | None = None,
        dependencies: Mapping[str, str] | None = None,
    ) -> Suggestion:
        """Return the number under which *path* should be published as a version of *name*, and why.

        Args:
            name: The model.
            path: The file or directory that is about to be published.
            base: What it takes the place of, as for `resolve`. Where there is no release yet, `latest` is the highest
                pre-release.
            architecture: Its class and configuration; those of *base* unless said otherwise.
            dependencies: What it depends on; as *base* unless said otherwise.

        Raises:
            SourceError: If *path* cannot be published.
            VersionNotFoundError, StageNotFoundError: If *base* leads nowhere, and something was published.
        """
        source = read_source(path)
        if not self._backend.store.list_versions(name, limit=1):
            why = Reason("none", "nothing was published before; it is expected to change until 1.0.0")
            return Suggestion(version=FIRST, bump="none", base=None, reasons=(why,))
        there = self._find_base(name, base)
        files = tuple(map(_hash, source.members))
        now = read_composition(
            Path(path).resolve(),
            files,
            entry=source.entry,
            architecture=there.architecture if architecture is None else architecture,
            dependencies=there.dependencies if dependencies is None else dependencies,
        )
        if not there.version.is_prerelease:
            return suggest_from(there.version, None, *judge(self._read(there), now))
        if root_digest(files) == there.digest and (bump_of := judge(self._read(there), now))[0] == "none":
            return suggest_from(there.version, None, *bump_of)
        promise = self._backend.store.highest(name, Range.parse(f"<{there.version.release}").intervals)
        bump, reasons = judge(self._read(promise or there), now)
        if bump == "none":  # the files of the last release, published again
            bump = "patch"
        return suggest_from(there.version, None if promise is None else promise.version, bump, reasons)

    def check_bump(self, draft: Draft, place: Path) -> None:
        """Warn if *draft*, whose files are at *place*, changes more than its number says.

        It is compared with the highest release before it that is not yanked. Only headers are read, and none of a
        release that would have to be brought from a storage first.

        Warns:
            BumpWarning: Says the number that it should have, and why.
        """
        core = draft.version.release
        base = self._backend.store.highest(draft.model, Range.parse(f"<{core}").intervals)
        if base is None:
            return
        now = read_composition(
            place.resolve(),
            draft.files,
            entry=draft.entry,
            architecture=draft.architecture,
            dependencies=draft.dependencies,
        )
        bump, reasons = judge(self._read(base, fetch=False), now)
        needed = next_version(base.version, bump)
        if needed > core:
            told = "; ".join(one.text for one in reasons if one.bump == bump)
            msg = (
                f"{draft.model} {draft.version} changes more than its number says: beside {base.version}, {told}. "
                f"Whoever asks for a range such as ^{base.version} gets it; {needed} would not surprise them"
            )
            warnings.warn(msg, BumpWarning, stacklevel=3)

    def changelog(
        self,
        name: str,
        since: str | Version | None = None,
        until: str | Version = "latest",
        *,
        include_prereleases: bool = False,
    ) -> Changelog:
        """Return what changed behind *since* up to *until*, the highest first.

        Tensors are compared where the files of both versions are at hand; none are brought from a storage for it.

        Args:
            name: The model.
            since: The version that somebody has, as for `resolve`; nothing for all versions.
            until: The one that they may take.
            include_prereleases: Tell of pre-releases too; *until* itself is always told of.

        Raises:
            InvalidReferenceError: If *until* comes before *since*.
            ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If a reference leads nowhere.
        """
        last = self._find(name, until)
        first = None if since is None else self._find(name, since)
        if first is not None and last.version < first.version:
            msg = (
                f"{last.version} comes before {first.version}; write `changelog {name} {last.version} {first.version}`"
            )
            raise InvalidReferenceError(msg)
        found = [
            one
            for one in self._between(name, first, last)
            if include_prereleases or not one.version.is_prerelease or one.version == last.version
        ]
        releases: list[Release] = []
        before = first
        for one in reversed(found):
            releases.append(self._tell(one, before))
            before = before if one.yanked else one
        return Changelog(
            model=name,
            since=None if first is None else first.version,
            until=last.version,
            releases=tuple(reversed(releases)),
        )

    # ------------------------------------------------------------------ the rest

    @property
    def _statements(self) -> Statements:
        kept: Statements | None = getattr(self._backend.store, "statements", None)
        if kept is None:
            kind = type(self._backend.store).__name__
            msg = f"{kind} keeps nothing that is said of versions later: no notes, no tags"
            raise StoreError(msg)
        return kept

    def _find(self, name: str, reference: str | Version) -> ModelVersion:
        return self._backend.find(name, read_reference(reference))

    def _find_base(self, name: str, base: str | Version) -> ModelVersion:
        if base == "latest":
            every = Range.parse("*", include_prereleases=True).intervals
            found = self._backend.store.highest(name, EVERY) or self._backend.store.highest(name, every)
            if found is not None:
                return found
        return self._find(name, base)

    def _read(self, published: ModelVersion, *, fetch: bool = True) -> Composition:
        files = self._backend.store.list_files(published.model, published.version)
        return read_composition(
            self._fetch(published) if fetch else self._at_hand(published),
            files,
            entry=published.entry,
            architecture=published.architecture,
            dependencies=published.dependencies,
            tracking=published.tracking,
        )

    def _fetch(self, published: ModelVersion) -> Path | None:
        try:
            return None if published.removed else self._backend.fetch(published)
        except CorruptArtifactError:
            return None  # the facts can be compared all the same, and `verify` tells of damage

    def _at_hand(self, published: ModelVersion) -> Path | None:
        """Return where the files are, if they need not be brought here from a storage first."""
        try:
            path = self._backend.place(published)
            return path if path.exists() else None
        except (CorruptArtifactError, OSError):
            return None

    def _between(self, name: str, first: ModelVersion | None, last: ModelVersion) -> Iterator[ModelVersion]:
        yield last
        cursor = last.version
        while page := self._backend.store.list_versions(name, limit=PAGE, below=cursor):
            for one in page:
                if first is not None and one.version <= first.version:
                    return
                yield one
            cursor = page[-1].version

    def _tell(self, one: ModelVersion, before: ModelVersion | None) -> Release:
        editions = self._statements.list_all(one.model, one.version, kinds=("noted",))
        found = None
        if before is not None and not one.removed and before.version != one.version:
            was, now = self._read(before, fetch=False), self._read(one, fetch=False)
            found = compare_compositions(one.model, before.version, was, one.version, now)
        return Release(
            published=one,
            notes=editions[-1].details if editions else "",
            tags=self._statements.list_tags(one.model, one.version),
            comparison=found,
        )


def _hash(member: Member) -> File:
    try:
        with member.origin.open("rb") as stream:
            return File(member.path, member.origin.stat().st_size, hash_stream(stream))
    except OSError as error:
        msg = f"{member.origin} cannot be published: {error.strerror or error}"
        raise SourceError(msg) from error
