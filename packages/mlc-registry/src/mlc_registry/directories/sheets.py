"""Everything that is known about one version, as plain data for people's eyes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import orjson

from mlc_registry.promotion.promoting import count_approvals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_registry.protocols import Store
    from mlc_registry.records import Change, File, ModelVersion, Stage

__all__ = ["describe_version", "write_sheet"]

KINDS = ("noted", "approved", "withdrawn", "signed")


def describe_version(
    store: Store, published: ModelVersion, files: Sequence[File], stages: Sequence[Stage]
) -> dict[str, Any]:
    """Return what *store* has about *published*, its *files* and the *stages* that point to it."""
    statements = getattr(store, "statements", None)
    said: Sequence[Change] = ()
    tags = {}
    if statements is not None:
        said = statements.list_all(published.model, published.version, kinds=KINDS)
        tags = statements.list_tags(published.model, published.version)
    notes = [one.details for one in said if one.kind == "noted"]
    approvals = {
        stage: [one.actor for one in count_approvals([one for one in said if one.stage == stage])]
        for stage in {one.stage for one in said if one.kind == "approved"}
    }
    architecture, parent = published.architecture, published.parent
    return {
        "model": published.model,
        "version": str(published.version),
        "digest": published.digest,
        "size": published.size,
        "files": [attrs.asdict(one) for one in files],
        "description": published.description,
        "notes": notes[-1] if notes else "",
        "metadata": published.metadata,
        "tracking": attrs.asdict(published.tracking, recurse=False),
        "architecture": None if architecture is None else attrs.asdict(architecture, recurse=False),
        "dependencies": published.dependencies,
        "parent": None if parent is None else {**attrs.asdict(parent, recurse=False), "version": str(parent.version)},
        "tags": tags,
        "created_at": published.created_at.isoformat(),
        "created_by": published.created_by,
        "stages": [one.name for one in stages if one.version == published.version],
        "approvals": {stage: actors for stage, actors in approvals.items() if actors},
        "signed_by": [one.actor for one in said if one.kind == "signed"],
        "yanked": published.yanked,
        "yank_reason": published.yank_reason,
        "removed": published.removed,
    }


def write_sheet(facts: dict[str, Any]) -> bytes:
    """Return *facts* as JSON to be read by people, with sorted names. NaN, which JSON has no word for, becomes null."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(facts, option=options)
