"""What changed from release to release, for people who have to decide whether to take the next one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlc_registry.records import ModelVersion
    from mlc_registry.releases.comparisons import Comparison
    from mlc_registry.semver.versions import Version

__all__ = ["Changelog", "Release"]

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
DEEPER = 2
"""Levels by which headings in notes go down, below that of their version."""


@attrs.frozen(kw_only=True)
class Release:
    """One version, and what is different in it."""

    published: ModelVersion
    notes: str
    """The last edition of its notes."""
    tags: Mapping[str, str]
    comparison: Comparison | None
    """With the version before that is not yanked; None for the first, and where the files were removed."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        one = self.published
        return {
            "version": str(one.version),
            "created_at": one.created_at.isoformat(),
            "created_by": one.created_by,
            "description": one.description,
            "notes": self.notes,
            "tags": dict(self.tags),
            "yanked": one.yanked,
            "yank_reason": one.yank_reason,
            "removed": one.removed,
            "comparison": None if self.comparison is None else self.comparison.to_json(),
        }


@attrs.frozen(kw_only=True)
class Changelog:
    """The releases of a model behind *since* up to *until*, the highest first."""

    model: str
    since: Version | None
    until: Version
    releases: tuple[Release, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "model": self.model,
            "since": None if self.since is None else str(self.since),
            "until": str(self.until),
            "releases": [one.to_json() for one in self.releases],
        }

    def to_markdown(self) -> str:
        """Return it as https://keepachangelog.com has it."""
        lines = [f"# Changelog of {self.model}", ""]
        for one in self.releases:
            lines += _tell(one)
        return "\n".join(lines).rstrip("\n") + "\n"


def _tell(release: Release) -> Iterator[str]:
    one = release.published
    mark = " [YANKED]" if one.yanked else ""
    yield from (f"## [{one.version}] - {one.created_at:%Y-%m-%d}{mark}", "")
    if one.yanked:
        gone = "The files were removed for good" if one.removed else "Yanked"
        yield from (f"{gone}: {_line(one.yank_reason) or 'no reason was given'}.", "")
    if one.description:
        yield from (_line(one.description), "")
    if release.notes:
        yield from (*_deepen(release.notes), "")
    if release.comparison is not None:
        yield from _tell_comparison(release.comparison)
    if release.tags:
        yield from ("### Tags", "", *(f"- {_line(key)}: {_line(value)}" for key, value in release.tags.items()), "")


def _tell_comparison(found: Comparison) -> Iterator[str]:
    metrics = list(_tell_metrics(found.metrics))
    if metrics:
        yield from ("### Metrics", "", *metrics, "")
    changes = list(_tell_changes(found))
    if changes:
        yield from (f"### Since {found.before}", "", *changes, "")


def _tell_metrics(metrics: Mapping[str, tuple[float | None, float | None]]) -> Iterator[str]:
    for name, (was, now) in metrics.items():
        if now is None:
            yield f"- {_line(name)}: was {was:g}, not measured"
        elif was is None:
            yield f"- {_line(name)}: {now:g}"
        else:
            yield f"- {_line(name)}: {was:g} → {now:g}" + (f" ({now - was:+.3g})" if now != was else "")


def _tell_changes(found: Comparison) -> Iterator[str]:
    if found.schema is not None and not found.schema.same:
        yield f"- Tensors: {found.schema.summary}"
    was, now = found.model_class
    if was != now:
        yield f"- Class: {was or 'none'} → {now or 'none'}"
    if found.config:
        shown = (f"{_line(name)} {_value(before)} → {_value(after)}" for name, (before, after) in found.config.items())
        yield f"- Configuration: {', '.join(shown)}"
    for name, (before, after) in found.dependencies.items():
        yield f"- Depends on {name}: {before or 'not before'} → {after or 'no more'}"
    for kind, names in (("added", found.added), ("removed", found.removed)):
        if names:
            yield f"- Files {kind}: {_line(', '.join(names[:5]))}{', …' if len(names) > 5 else ''}"


def _value(value: object) -> str:
    text = _line("not set" if value is None else str(value))
    return text if len(text) <= 60 else f"{text[:60]}…"


def _line(text: str) -> str:
    """Return *text* in one line, so that nothing in it can be taken for another heading."""
    return " ".join(text.split())


def _deepen(text: str) -> Iterator[str]:
    """Return the lines of Markdown with every heading below that of a version; code stays what it is."""
    fence = ""
    for line in text.strip("\n").splitlines():
        mark = FENCE.match(line)
        heading = HEADING.match(line)
        if fence:
            if mark is not None and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
            yield line
        elif mark is not None:
            fence = mark[1]
            yield line
        elif heading is not None:
            yield "#" * min(6, len(heading[1]) + DEEPER) + line[heading.end() :]
        elif UNDERLINE.match(line) and line.strip():
            yield "" if line.strip()[0] == "=" else "\n* * *"  # or the line before would become a heading
        else:
            yield line
    if fence:
        yield fence
