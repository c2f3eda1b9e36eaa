"""Models that need other models: which versions work together, who needs whom, and a file that pins them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from mlc_registry import misses
from mlc_registry.dependencies.conflicts import explain_conflict
from mlc_registry.dependencies.locks import Lock, check_against, read_lock, write_lock
from mlc_registry.dependencies.resolving import ImpossibleError, Wish, solve
from mlc_registry.errors import DependencyError, InvalidNameError, InvalidRangeError, LockError
from mlc_registry.names import check_model
from mlc_registry.records import Resolved
from mlc_registry.requirements import show
from mlc_registry.semver.ranges import Range
from mlc_registry.semver.references import parse_reference, read_reference

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from mlc_registry.backend import Backend
    from mlc_registry.dependencies.resolving import Solution
    from mlc_registry.protocols import Store
    from mlc_registry.records import ModelVersion
    from mlc_registry.semver.versions import Version

__all__ = ["Branch", "Dependencies", "Required", "Resolution", "check_dependencies", "read_requirements"]


@attrs.frozen(kw_only=True)
class Required:
    """Who needs a model, and which versions of it."""

    by: str
    """The version that depends on it, as in `app 2.1.0`; nothing if it was asked for itself."""
    reference: str
    """The range, or what was asked for."""


@attrs.frozen(kw_only=True)
class Resolution(Mapping[str, Resolved]):
    """One version of each model that is needed, by name."""

    models: Mapping[str, Resolved]
    required: Mapping[str, tuple[Required, ...]]
    """Who needs each model, by its name."""

    def __getitem__(self, name: str) -> Resolved:
        return self.models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)


@attrs.frozen(kw_only=True)
class Branch:
    """One version in a tree of dependencies."""

    model: str
    version: Version
    reference: str
    """What it was asked for with."""
    branches: tuple[Branch, ...] = ()
    """What it depends on, by name."""
    circular: bool = False
    """Whether it is further up in the tree already, so that what it depends on is not told again."""


def check_dependencies(store: Store, name: str, dependencies: Mapping[str, str]) -> dict[str, str]:
    """Return *dependencies* of the model *name* sorted, if each can be had now.

    Raises:
        DependencyError: If a name or a range is none, if one is the model itself, or if no published version is in a
            range; names each, and what there is.
    """
    given: object = dependencies
    problems = (
        [f"  {show(other)}: {fault}" for other, text in given.items() if (fault := _fault(store, name, other, text))]
        if isinstance(given, Mapping)
        else [f"  {show(given)} is no mapping from the name of each model to a range"]
    )
    if problems:
        msg = f"the dependencies of {name!r} cannot be kept:\n" + "\n".join(problems)
        raise DependencyError(msg)
    return dict(sorted(dependencies.items()))


def _fault(store: Store, name: str, other: object, text: object) -> str:
    if not isinstance(other, str) or not isinstance(text, str) or not text.strip():
        return f"{show(text)} is no range of versions; write ^1.2, or * for any"
    try:
        wanted = Range.parse(text)
        check_model(other)
    except InvalidNameError as error:
        return str(error)
    except InvalidRangeError as error:
        return f"{error}. A dependency is a range: stages and keywords move"
    if other == name:
        return "a model cannot depend on itself"
    exact = store.find(other, wanted.exact) if wanted.exact is not None else None
    there = exact if exact is not None and not exact.removed else store.highest(other, wanted.intervals)
    return "" if there is not None else str(misses.explain_miss(store, other, read_reference(text)))


@attrs.frozen
class Dependencies:
    """Answers which versions of models work together."""

    _backend: Backend
    _address: str

    def check(self, name: str, dependencies: Mapping[str, str]) -> dict[str, str]:
        """Return *dependencies* of the model *name* sorted, if each can be had now: a range by the name of each model.

        Raises:
            DependencyError: If a name or a range is none, if one is the model itself, or if no published version is in
                a range; names each, and what there is.
        """
        return check_dependencies(self._backend.store, name, dependencies)

    def resolve(
        self, requirements: Mapping[str, str] | Sequence[str], *, include_prereleases: bool = False
    ) -> Resolution:
        """Choose one version of each model that is required and of all that these depend on, the highest that fit.

        Args:
            requirements: A reference by the name of each model, or `NAME@REFERENCE` for each; those that come first
                have the choice. `latest`, `newest` and a stage mean the version that they mean now.
            include_prereleases: Let every range find pre-releases too.

        Raises:
            ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If a requirement leads nowhere.
            DependencyError: If no versions fit together; explains who needs what, and the nearest way out.
        """
        asked = read_requirements(requirements)
        return self._describe(self._solve(asked, include_prereleases=include_prereleases))

    def dependents(self, name: str, reference: str | Version | None = None) -> Sequence[ModelVersion]:
        """Return the versions that depend on the model *name*, or only those that work with one version of it.

        Raises:
            ModelNotFoundError: If there is no such model; and, with *reference*, what `resolve` of a registry raises.
        """
        found = self._backend.searches.list_dependents(name)
        if reference is not None:
            version = self._backend.find(name, read_reference(reference)).version
            return tuple(one for one in found if version in Range.parse(one.dependencies[name]))
        return tuple(found) or self._backend.explain_nothing(name)

    def tree(self, name: str, reference: str | Version = "latest", *, include_prereleases: bool = False) -> Branch:
        """Return what one version depends on, at the versions that fit together, and what these depend on.

        Raises:
            As `resolve`.
        """
        found = self._solve({name: str(read_reference(reference))}, include_prereleases=include_prereleases)
        return _grow(found.chosen, name, str(reference), ())

    # ------------------------------------------------------------------ lock files

    def lock(
        self,
        requirements: Mapping[str, str] | Sequence[str],
        path: str | os.PathLike[str] = "mlc.lock",
        *,
        include_prereleases: bool = False,
    ) -> Lock:
        """Write what `resolve` chooses to the file *path*, with digests, at once or not at all.

        The same choice is the same file, to the byte.

        Raises:
            LockError: If the file cannot be written; and as `resolve`.
        """
        asked = read_requirements(requirements)
        found = self._solve(asked, include_prereleases=include_prereleases)
        return self._write(asked, found, path, include_prereleases=include_prereleases)

    def check_lock(self, path: str | os.PathLike[str] = "mlc.lock") -> Lock:
        """Return the lock file *path*, if everything in it is still there as it was locked.

        Raises:
            LockError: If it cannot be read, or if a version was removed, is another one now, or is not what those that
                need it ask for; names each.

        Warns:
            YankedVersionWarning: If a version was yanked since.
        """
        found = read_lock(path)
        check_against(self._backend.store, found, str(path))
        return found

    def update(self, path: str | os.PathLike[str] = "mlc.lock", names: Sequence[str] | None = None) -> Lock:
        """Choose anew for the models *names* in the lock file *path*, or for all, and write it.

        The other models stay at their versions wherever that is possible.

        Raises:
            LockError: If it cannot be read or written, or has no model of that name; and as `resolve`.
        """
        old = read_lock(path)
        asked, include = dict(old.requirements), old.include_prereleases
        if names is None:
            found = self._solve(asked, include_prereleases=include)
            return self._write(asked, found, path, include_prereleases=include)
        for name in names:
            old.get(name, str(path))
        preferred = {name: one.version for name, one in old.models.items() if name not in names}
        try:
            found = self._solve(asked, preferred=preferred, fixed=preferred, include_prereleases=include)
        except DependencyError:  # a stage has moved to where it must follow
            found = self._solve(asked, preferred=preferred, include_prereleases=include)
        return self._write(asked, found, path, include_prereleases=include)

    def path(self, name: str, lock: str | os.PathLike[str] = "mlc.lock", *, verify: bool = True) -> Path:
        """Return the file or directory of the version of *name* that is locked, or another with its digest.

        Args:
            name: The model.
            lock: The lock file.
            verify: Hash the files first.

        Raises:
            LockError: If the file cannot be read, has no such model, or the registry has no such digest any more.
            CorruptArtifactError: If the files are missing, or, with *verify*, not what was locked.
        """
        wanted = read_lock(lock).get(name, str(lock))
        found = self._backend.store.find(name, wanted.version)
        if found is None or found.removed or found.digest != wanted.digest:
            found = self._backend.store.find_digest(name, wanted.digest)
        if found is None or found.removed:
            msg = (
                f"{lock} has {name} {wanted.version} as {wanted.digest}, of which the registry {self._address} "
                f"{'has removed the files' if found else 'knows nothing'}; update the lock file"
            )
            raise LockError(msg)
        return self._backend.fetch(found, verify=verify)

    # ------------------------------------------------------------------ the inside

    def _solve(
        self,
        asked: Mapping[str, str],
        *,
        preferred: Mapping[str, Version] | None = None,
        fixed: Mapping[str, Version] | None = None,
        include_prereleases: bool,
    ) -> Solution:
        """Choose; what moves, like a stage, is where it is now, or where *fixed* says."""
        wishes = [
            self._wish(name, text, (fixed or {}).get(name), include_prereleases=include_prereleases)
            for name, text in asked.items()
        ]
        store = self._backend.store
        try:
            return solve(store, wishes, preferred=preferred, include_prereleases=include_prereleases)
        except ImpossibleError as error:
            msg = explain_conflict(store, wishes, error, include_prereleases=include_prereleases)
            raise DependencyError(msg) from None

    def _wish(self, name: str, text: str, fixed: Version | None, *, include_prereleases: bool) -> Wish:
        wanted = read_reference(text, include_prereleases=include_prereleases)
        if wanted.kind in {"range", "exact"} and wanted.range is not None:
            if fixed is None:
                self._backend.find(name, wanted)  # says what there is, if it is not that
            return Wish(name, text, wanted.range)
        version = fixed or self._backend.find(name, wanted).version
        return Wish(name, text, Range.parse(str(version)))

    def _describe(self, found: Solution) -> Resolution:
        return Resolution(
            models={name: self._backend.resolve(one, _join(found.wishes[name])) for name, one in found.chosen.items()},
            required={
                name: tuple(Required(by=one.by, reference=one.text) for one in wishes)
                for name, wishes in found.wishes.items()
            },
        )

    def _write(
        self,
        asked: Mapping[str, str],
        found: Solution,
        path: str | os.PathLike[str],
        *,
        include_prereleases: bool,
    ) -> Lock:
        lock = Lock.of(self._address, asked, found, include_prereleases=include_prereleases)
        write_lock(lock, path)
        return lock


def read_requirements(requirements: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """Return a reference by the name of each model.

    Raises:
        DependencyError: If nothing is required, or one model twice.
        InvalidNameError, InvalidReferenceError: If a name or a reference is none.
    """
    if isinstance(requirements, str):
        msg = f"{requirements!r} is one text; pass a list of NAME@REFERENCE, or a reference by the name of each model"
        raise DependencyError(msg)
    found: dict[str, str] = {}
    if isinstance(requirements, Mapping):
        for name, text in requirements.items():
            read_reference(text)
            found[check_model(name)] = text
    else:
        for spec in requirements:
            name, reference = parse_reference(spec)
            if name in found:
                msg = f"{name} is asked for twice; say both in one range, as in {name}@'{found[name]} {reference}'"
                raise DependencyError(msg)
            found[name] = reference.text
    if not found:
        msg = "nothing is required; name a model, as in brain-tissue@^1"
        raise DependencyError(msg)
    return found


def _join(wishes: Sequence[Wish]) -> str:
    return ", ".join(dict.fromkeys(one.text for one in wishes))


def _grow(chosen: Mapping[str, ModelVersion], name: str, reference: str, above: tuple[str, ...]) -> Branch:
    one = chosen[name]
    if name in above:
        return Branch(model=name, version=one.version, reference=reference, circular=True)
    branches = tuple(_grow(chosen, other, text, (*above, name)) for other, text in sorted(one.dependencies.items()))
    return Branch(model=name, version=one.version, reference=reference, branches=branches)
