"""Two versions beside each other: tensors, class, configuration, dependencies, metrics, files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from mlc_registry.errors import SchemaError
from mlc_registry.records import Tracking
from mlc_registry.releases.layouts import INDEX, find_layout
from mlc_registry.releases.schemas import compare, schema_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlc_registry.records import Architecture, File, Json
    from mlc_registry.releases.schemas import Schema, SchemaDiff
    from mlc_registry.semver.versions import Version

__all__ = ["LOST", "Comparison", "Composition", "compare_compositions", "read_composition"]

Change: TypeAlias = "tuple[Json, Json]"
LOST = "the files of that version are gone, or not at hand"


@attrs.frozen(kw_only=True)
class Composition:
    """What a version consists of, as far as it can be compared without reading tensors."""

    files: Mapping[str, File]
    entry: str
    """The file that was published, or nothing where a directory was."""
    schema: Schema | None
    """The tensors; None if they cannot be listed."""
    unlisted: str = ""
    """Why not."""
    weights: frozenset[str] = frozenset()
    """The files that hold the tensors, and say where they are."""
    training: frozenset[str] = frozenset()
    """The files of a checkpoint that only training goes on from."""
    architecture: Architecture | None = None
    dependencies: Mapping[str, str] = attrs.field(factory=dict)
    tracking: Tracking = attrs.field(factory=Tracking)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.size for one in self.files.values())


@attrs.frozen(kw_only=True)
class Comparison:
    """How the version *after* differs from the version *before*."""

    model: str
    before: Version
    after: Version
    schema: SchemaDiff | None
    """None where the tensors of one of them cannot be listed."""
    unlisted: str
    """Why not."""
    model_class: tuple[str | None, str | None]
    config: Mapping[str, Change]
    """What was configured and what is, by name; None where nothing was said. Only what differs."""
    dependencies: Mapping[str, tuple[str | None, str | None]]
    """The ranges by model. Only what differs."""
    metrics: Mapping[str, tuple[float | None, float | None]]
    """What was measured, and what is, by name. All that either has."""
    added: Sequence[str]
    """Files that came."""
    removed: Sequence[str]
    """Files that went."""
    changed: Sequence[str]
    """Files of other content."""
    sizes: tuple[int, int]

    @property
    def same_files(self) -> bool:
        """Whether the files are the same."""
        return not (self.added or self.removed or self.changed)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "model": self.model,
            "before": str(self.before),
            "after": str(self.after),
            "schema": None if self.schema is None else self.schema.to_json(),
            "unlisted": self.unlisted,
            "model_class": list(self.model_class),
            "config": {name: list(one) for name, one in self.config.items()},
            "dependencies": {name: list(one) for name, one in self.dependencies.items()},
            "metrics": {name: list(one) for name, one in self.metrics.items()},
            "files": {"added": list(self.added), "removed": list(self.removed), "changed": list(self.changed)},
            "sizes": list(self.sizes),
        }


def read_composition(
    path: Path | None,
    files: Sequence[File],
    *,
    entry: str,
    architecture: Architecture | None = None,
    dependencies: Mapping[str, str] | None = None,
    tracking: Tracking | None = None,
) -> Composition:
    """Return what the *files* of *path*, a file or directory, are; only headers are read, and none if it is lost."""
    schema, why, weights, training = None, "", frozenset[str](), frozenset[str]()
    try:
        if path is None:
            why = LOST
        else:
            layout = find_layout(path)
            training = frozenset(layout.others)
            schema = schema_of(layout)
            folder = path.parent if entry else path
            weights = frozenset(one.relative_to(folder).as_posix() for one in layout.files)
            weights |= {name for name in (one.path for one in files) if name.endswith(INDEX)}
    except SchemaError as error:
        why = str(error)
    except OSError as error:
        why = f"the tensors of {path} cannot be listed: {error.strerror or error}"
    return Composition(
        files={one.path: one for one in files},
        entry=entry,
        schema=schema,
        unlisted=why,
        weights=weights,
        training=training,
        architecture=architecture,
        dependencies=dependencies or {},
        tracking=tracking or Tracking(),
    )


def compare_compositions(model: str, before: Version, was: Composition, after: Version, now: Composition) -> Comparison:
    """Return how *now*, the version *after*, differs from *was*, the version *before*."""
    listed = was.schema is not None and now.schema is not None
    both = was.files.keys() & now.files.keys()
    classes = (was.architecture, now.architecture)
    config = tuple({} if one is None else one.config for one in classes)
    return Comparison(
        model=model,
        before=before,
        after=after,
        schema=compare(was.schema, now.schema) if was.schema is not None and now.schema is not None else None,
        unlisted="" if listed else was.unlisted or now.unlisted,
        model_class=(_class_of(was), _class_of(now)),
        config=_differing(config[0], config[1]),
        dependencies=_differing(was.dependencies, now.dependencies),
        metrics=_beside(was.tracking.metrics, now.tracking.metrics),
        added=sorted(now.files.keys() - both),
        removed=sorted(was.files.keys() - both),
        changed=sorted(name for name in both if was.files[name].digest != now.files[name].digest),
        sizes=(was.size, now.size),
    )


def _class_of(one: Composition) -> str | None:
    return None if one.architecture is None else one.architecture.model_class


def _beside(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (before.get(name), after.get(name)) for name in sorted({*before, *after})}


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    missing = object()
    found = {name for name in {*before, *after} if before.get(name, missing) != after.get(name, missing)}
    return {name: (before.get(name), after.get(name)) for name in sorted(found)}
