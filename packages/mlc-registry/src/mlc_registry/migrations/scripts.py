"""Migrations, run: on a copy, every step checked, and in place at one moment or not at all."""

from __future__ import annotations

import importlib.util
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from mlc_registry.artifacts.sources import read_source
from mlc_registry.artifacts.transfers import sync_directory
from mlc_registry.errors import MigrationError, RegistryError, SchemaError, SourceError
from mlc_registry.migrations.room import find_steps, list_steps
from mlc_registry.migrations.swapping import copy_tree, discard, keep_backup, swap, sync_tree, workshop
from mlc_registry.releases.schemas import compare, read_schema
from mlc_registry.requirements import require_path
from mlc_registry.semver.references import read_reference
from mlc_registry.semver.versions import Version

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mlc_registry.backend import Backend
    from mlc_registry.migrations.room import Step
    from mlc_registry.records import Architecture, ModelVersion
    from mlc_registry.releases.schemas import SchemaDiff

__all__ = ["Migrated", "Migrations", "migrate"]


@attrs.frozen(kw_only=True)
class Migrated:
    """What a migration did, or would do."""

    model: str
    before: Version
    after: Version
    steps: tuple[Step, ...]
    schema: SchemaDiff | None
    """How the tensors differ; None where they cannot be listed."""
    path: Path | None
    """Where the result is; None after a dry run."""
    backup: Path | None
    """Where what was there before is kept, if it was replaced."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "model": self.model,
            "before": str(self.before),
            "after": str(self.after),
            "steps": [_step_facts(one) for one in self.steps],
            "schema": None if self.schema is None else self.schema.to_json(),
            "path": None if self.path is None else str(self.path),
            "backup": None if self.backup is None else str(self.backup),
        }


def migrate(
    path: str | os.PathLike[str],
    model: str,
    before: str | Version,
    after: str | Version,
    *,
    scripts: Iterable[str | os.PathLike[str]] = (),
    output: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
) -> Migrated:
    """Turn *path*, the files of the version *before* of *model*, into those of *after*.

    Each step reads what the step before wrote and writes into an empty directory. Whatever fails, and whenever the
    process is killed, *path* is what it was or what it should become, whole. What it was is kept beside it, as
    `NAME.backup-BEFORE`.

    Args:
        path: A file or a directory. Of a file, each step has to make exactly one.
        model: The model, by whose name scripts are found.
        before: The version that *path* is.
        after: The version that it shall become; only its major number decides.
        scripts: Directories with scripts, beside those of the environment and of plugins.
        output: Write the result here, where nothing is and outside of *path*, and leave *path* alone.
        dry_run: Run all steps, tell what they would change, and change nothing.

    Raises:
        MigrationError: If there is no way, a step failed or wrote nothing, or the place cannot be written to.
        SourceError: If there is nothing at *path* that could be migrated.
    """
    first, last = Version.read(before), Version.read(after)
    steps = tuple(find_steps(model, first.major, last.major, scripts))
    origin = Path(require_path(path, "what to migrate", error=SourceError)).resolve()
    read_source(origin)
    goal = origin if output is None else Path(require_path(output, "output", error=MigrationError)).absolute()
    if output is not None and (goal.exists() or goal.is_symlink()):
        msg = f"{goal} is there; name a place where nothing is"
        raise MigrationError(msg)
    if output is not None and goal.resolve().is_relative_to(origin):
        msg = f"{goal} is within {origin}, which would become a part of itself; name a place outside"
        raise MigrationError(msg)
    facts: dict[str, Any] = {"model": model, "before": first, "after": last, "steps": steps}
    with _failures(goal), workshop(goal) as room:
        result = _run(steps, origin, room)
        facts["schema"] = _differ(origin, result)
        if dry_run:
            return Migrated(**facts, path=None, backup=None)
        if output is not None:
            sync_tree(result)
            result.rename(goal)
            sync_directory(goal.parent)
            return Migrated(**facts, path=goal, backup=None)
        backup = origin.with_name(f"{origin.name}.backup-{first}")
        keep_backup(origin, backup, room)
        try:
            swap(result, origin)
        except BaseException:
            discard(backup)
            raise
    return Migrated(**facts, path=origin, backup=backup)


class Migrations:
    """What turns the files of one major version of a model into those of another."""

    def __init__(self, backend: Backend, register: Callable[..., ModelVersion]) -> None:
        self._backend = backend
        self._register = register

    def list_steps(self, model: str, *, scripts: Iterable[str | os.PathLike[str]] = ()) -> Sequence[Step]:
        """Return all scripts for *model*.

        Raises:
            MigrationError: If one cannot be a script.
        """
        return list_steps(model, scripts)

    def find(
        self, model: str, before: int, after: int, *, scripts: Iterable[str | os.PathLike[str]] = ()
    ) -> Sequence[Step]:
        """Return the shortest way between two major versions.

        Raises:
            MigrationError: If there is none; says which step is missing.
        """
        return find_steps(model, before, after, scripts)

    def run(self, path: str | os.PathLike[str], model: str, before: str, after: str, **options: Any) -> Migrated:
        """Migrate local files; as `migrate`.

        Raises:
            MigrationError: As `migrate`.
        """
        return migrate(path, model, before, after, **options)

    def publish(
        self,
        name: str,
        reference: str | Version,
        version: str | Version,
        *,
        scripts: Iterable[str | os.PathLike[str]] = (),
        architecture: Architecture | None = None,
        metadata: Mapping[str, Any] | None = None,
        description: str = "",
        actor: str | None = None,
    ) -> ModelVersion:
        """Migrate a published version, and publish the result as *version*, with the first as its parent.

        Which steps were taken, with the digests of their scripts, is kept as `migration` in the metadata.

        Args:
            name: The model.
            reference: What to migrate, as for `resolve`.
            version: The number for the result.
            scripts: Directories with scripts, beside those of the environment and of plugins.
            architecture: The class and its configuration that the result belongs to; those of the first unless said
                otherwise.
            metadata: What else to keep.
            description: What people should know about it.
            actor: Who publishes.

        Raises:
            MigrationError: If there is no way, or a step failed; nothing is published then.
            CorruptArtifactError: If the files are not what was published.
            VersionExistsError: If *version* is published with other files; and as `resolve`.
        """
        found = self._backend.find(name, read_reference(reference))
        number = Version.read(version)
        steps = tuple(find_steps(name, found.version.major, number.major, scripts))
        path = self._backend.fetch(found, verify=True)
        with tempfile.TemporaryDirectory(prefix="mlc-migration-") as folder, _failures(path):
            result = _run(steps, path, Path(folder))
            told = {"from": str(found.version), "steps": [_step_facts(one) for one in steps]}
            return self._register(
                name,
                number,
                result,
                {**(metadata or {}), "migration": told},
                description=description or f"Migrated from {found.version}.",
                architecture=found.architecture if architecture is None else architecture,
                dependencies=found.dependencies or None,
                parent=f"{name}@{found.version}",
                actor=actor,
            )


# ---------------------------------------------------------------------- one step after the other


def _run(steps: Sequence[Step], origin: Path, room: Path) -> Path:
    """Return what *steps* make of a copy of *origin*, in *room*; of a file, a file of the same name."""
    is_file = origin.is_file()
    source = room / "0" / origin.name
    source.parent.mkdir()
    copy_tree(origin, source)
    for number, step in enumerate(steps, start=1):
        target = room / str(number)
        target.mkdir()
        _call(step, source, target)
        source = _check(step, target, is_file=is_file)
    if is_file and source.name != origin.name:
        source = source.rename(source.with_name(origin.name))
    return source


def _call(step: Step, source: Path, target: Path) -> None:
    spec = importlib.util.spec_from_file_location(f"mlc_migration_{step.name}", step.path)
    if spec is None or spec.loader is None:
        msg = f"{step.path} cannot be loaded"
        raise MigrationError(msg)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        module.migrate(source, target)
    except (Exception, SystemExit) as error:
        msg = (
            f"step {step.name} of {step.model} failed, and nothing was changed: {type(error).__name__}: {error} "
            f"({step.path})"
        )
        raise MigrationError(msg) from error


def _check(step: Step, target: Path, *, is_file: bool) -> Path:
    try:
        members = read_source(target).members
    except SourceError as error:
        msg = f"step {step.name} of {step.model} wrote nothing that can be used, and nothing was changed: {error}"
        raise MigrationError(msg) from error
    if not any(one.origin.stat().st_size for one in members):
        msg = f"step {step.name} of {step.model} wrote empty files only, and nothing was changed ({step.path})"
        raise MigrationError(msg)
    if not is_file:
        return target
    if len(members) != 1:
        msg = (
            f"step {step.name} of {step.model} made {len(members)} files of one, and nothing was changed ({step.path})"
        )
        raise MigrationError(msg)
    return members[0].origin


def _differ(before: Path, after: Path) -> SchemaDiff | None:
    try:
        return compare(read_schema(before), read_schema(after))
    except SchemaError:
        return None


def _step_facts(step: Step) -> dict[str, str]:
    return {"step": step.name, "description": step.description, "script": step.digest}


@contextmanager
def _failures(place: Path) -> Iterator[None]:
    try:
        yield
    except RegistryError:  # some of them are an OSError as well
        raise
    except OSError as error:
        msg = f"{place} was not migrated, and is what it was: {error.strerror or error}"
        raise MigrationError(msg) from error
