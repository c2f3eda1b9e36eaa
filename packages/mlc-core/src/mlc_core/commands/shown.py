"""How a checkpoint is shown to people and to programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.shelf import PIN
from mlc_hooks.console import human_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.reader import CheckpointReader
    from mlc_core.records import Saved

__all__ = ["as_row", "as_text", "facts", "link_changes"]

METRICS_IN_A_ROW = 4


def facts(saved: Saved) -> dict[str, Any]:
    """Return everything the manifest says, as plain data; numbers that JSON does not know are null."""
    found = {field.name: _plain(getattr(saved, field.name)) for field in attrs.fields(type(saved))}
    return {**found, "files": [attrs.asdict(one) for one in saved.files], "size": saved.size}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_row(saved: Saved, links: Sequence[str]) -> tuple[object, ...]:
    """Return one line of a table."""
    shown = list(saved.metrics.items())[:METRICS_IN_A_ROW]
    more = " …" if len(saved.metrics) > METRICS_IN_A_ROW else ""
    metrics = "  ".join(f"{name} {value:.4g}" for name, value in shown) + more
    when = saved.created_at[:19].replace("T", " ")
    reasons = "; ".join(saved.reasons)
    shown_links = sorted({"pinned" if one.startswith(PIN) else one for one in links})
    return saved.name, ", ".join(shown_links), saved.epoch, saved.step, metrics, human_size(saved.size), when, reasons


def as_text(reader: CheckpointReader) -> str:
    """Return the facts about one checkpoint, a line each."""
    saved = reader.saved
    lines = {
        "checkpoint": reader.location,
        "model": saved.model,
        "id": saved.id,
        "run": saved.run,
        "epoch": saved.epoch if saved.epoch_ended or saved.epoch is None else f"{saved.epoch} (in the middle)",
        "step": saved.step,
        "saved": f"{saved.created_at}, because: {'; '.join(saved.reasons)}",
        "metrics": ", ".join(f"{name}={value:.6g}" for name, value in saved.metrics.items()),
        "holds": ", ".join(saved.items),
        "written by": ", ".join(f"{name} {version}" for name, version in saved.versions.items()),
    }
    return "\n".join(f"{name:11} {value}" for name, value in lines.items() if value not in {None, ""})


def link_changes(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str | None]:
    """Return where each link that changed leads now, None for one that is gone."""
    return {link: after.get(link) for link in sorted({*before, *after}) if before.get(link) != after.get(link)}
