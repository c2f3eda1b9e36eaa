"""What somebody says about a version that is about to be published: all of it checked before anything is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlc_registry.actors import name_actor
from mlc_registry.errors import StoreError
from mlc_registry.facts import check_architecture, check_dependencies, check_tracking
from mlc_registry.metadata import normalise_metadata
from mlc_registry.records import Origin
from mlc_registry.semver.references import parse_reference
from mlc_registry.tags import check_line, check_notes, check_tags, check_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_registry.backend import Backend
    from mlc_registry.protocols import Statements
    from mlc_registry.records import Architecture, Draft, ModelVersion, Tracking

__all__ = ["describe", "list_differences"]


def describe(
    backend: Backend,
    *,
    metadata: Mapping[str, Any] | None,
    description: str,
    actor: str | None,
    tracking: Tracking | None,
    architecture: Architecture | None,
    dependencies: Mapping[str, str] | None,
    parent: str | None,
    tags: Mapping[str, str] | None,
    notes: str,
) -> dict[str, Any]:
    """Return what a `Draft` says beside its files, by its names.

    Raises:
        InvalidMetadataError: If something cannot be kept; names what and where.
        InvalidNameError, InvalidRangeError: If something that it depends on has no name or no range.
        InvalidTagError: If a tag cannot be one.
        InvalidNoteError: If *notes* are blank.
        InvalidReferenceError, ModelNotFoundError, VersionNotFoundError, StageNotFoundError: If *parent* leads nowhere.
        StoreError: If the database keeps neither tags nor notes, and there are some.
    """
    if (tags or notes) and getattr(backend.store, "statements", None) is None:
        msg = f"{type(backend.store).__name__} keeps neither tags nor notes; publish without"
        raise StoreError(msg)
    check_line(actor=name_actor(actor))
    if notes != "":
        check_notes(notes)
    return {
        "metadata": normalise_metadata(metadata),
        "description": check_text(description, "description"),
        "created_by": name_actor(actor),
        "tracking": check_tracking(tracking),
        "architecture": check_architecture(architecture),
        "dependencies": check_dependencies(dependencies),
        "parent": None if parent is None else _find_origin(backend, parent),
        "tags": check_tags(tags),
        "notes": check_text(notes, "notes"),
    }


def list_differences(backend: Backend, published: ModelVersion, draft: Draft, given: Mapping[str, object]) -> list[str]:
    """Return what of *given* the *draft* says in another way than the version that was *published* before."""
    different = [
        name
        for name, value in given.items()
        if value is not None and hasattr(published, name) and getattr(published, name) != getattr(draft, name)
    ]
    statements: Statements | None = getattr(backend.store, "statements", None)
    if statements is None:
        return different
    number = published.version
    if draft.tags and not draft.tags.items() <= statements.list_tags(published.model, number).items():
        different.append("tags")
    if draft.notes:
        stated = statements.list_all(published.model, number, kinds=("noted",))
        if not stated or stated[-1].details != draft.notes:
            different.append("notes")
    return different


def _find_origin(backend: Backend, spec: str) -> Origin:
    name, reference = parse_reference(spec)
    found = backend.find(name, reference)
    return Origin(model=found.model, version=found.version, digest=found.digest)
