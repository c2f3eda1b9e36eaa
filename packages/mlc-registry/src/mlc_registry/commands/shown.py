"""How versions, stages and changes are shown to people and to programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from mlc_hooks.console import human_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from mlc_registry.records import Change, Model, ModelVersion, Resolved, Stage

__all__ = [
    "change_facts",
    "model_facts",
    "resolved_facts",
    "stage_facts",
    "time_shown",
    "version_facts",
    "version_text",
]


def model_facts(model: Model, stages: Sequence[Stage]) -> dict[str, Any]:
    """Return *model* as plain data."""
    return {
        "name": model.name,
        "latest": _text(model.latest),
        "newest": _text(model.newest),
        "versions": model.versions,
        "stages": {one.name: str(one.version) for one in stages},
    }


def version_facts(published: ModelVersion, stages: Sequence[Stage]) -> dict[str, Any]:
    """Return *published* as plain data, with the stages that point to it."""
    return {
        "model": published.model,
        "version": str(published.version),
        "digest": published.digest,
        "size": published.size,
        "description": published.description,
        "metadata": published.metadata,
        "created_at": published.created_at.isoformat(),
        "created_by": published.created_by,
        "yanked": published.yanked,
        "yank_reason": published.yank_reason,
        "removed": published.removed,
        **_beside(published),
        "stages": [one.name for one in stages if one.version == published.version],
    }


def _beside(published: ModelVersion) -> dict[str, Any]:
    architecture, parent = published.architecture, published.parent
    return {
        "tracking": attrs.asdict(published.tracking),
        "architecture": architecture and {"class": architecture.model_class, "config": architecture.config},
        "dependencies": dict(published.dependencies),
        "parent": parent and {"model": parent.model, "version": str(parent.version), "digest": parent.digest},
    }


def resolved_facts(resolved: Resolved) -> dict[str, Any]:
    """Return *resolved* as plain data."""
    return {
        "model": resolved.model,
        "version": str(resolved.version),
        "digest": resolved.digest,
        "path": str(resolved.path),
        "reference": resolved.reference,
        "yanked": resolved.yanked,
    }


def stage_facts(stage: Stage) -> dict[str, Any]:
    """Return *stage* as plain data."""
    return {
        "model": stage.model,
        "stage": stage.name,
        "version": str(stage.version),
        "actor": stage.actor,
        "reason": stage.reason,
        "at": stage.at.isoformat(),
    }


def change_facts(change: Change) -> dict[str, Any]:
    """Return *change* as plain data."""
    return {
        "number": change.number,
        "at": change.at.isoformat(),
        "kind": change.kind,
        "stage": change.stage,
        "before": _text(change.before),
        "after": str(change.after),
        "actor": change.actor,
        "reason": change.reason,
    }


def version_text(facts: dict[str, Any], path: Path) -> str:
    """Return the *facts* about one version at *path*, a line each, without those that say nothing."""
    lines = {
        "model": facts["model"],
        "version": facts["version"],
        "stages": ", ".join(facts["stages"]),
        "about": facts["description"],
        "published": f"{facts['created_at'][:19].replace('T', ' ')} UTC by {facts['created_by']}",
        "yanked": facts["yank_reason"] or "no reason was given" if facts["yanked"] else "",
        "path": str(path),
        "size": human_size(facts["size"]),
        "digest": facts["digest"],
    }
    return "\n".join(f"{name:10} {value}" for name, value in lines.items() if value)


def time_shown(at: datetime) -> str:
    """Return *at* for a table."""
    return at.strftime("%Y-%m-%d %H:%M:%S")


def _text(value: object) -> str | None:
    return None if value is None else str(value)
