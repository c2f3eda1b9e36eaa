"""Where a version comes from, as far as its files say so: the manifest of a checkpoint, the commit of the code."""

from __future__ import annotations

import math
import os
import subprocess
from pathlib import Path
from typing import Any

import attrs

from mlc_registry.errors import SchemaError, SourceError
from mlc_registry.records import Tracking
from mlc_registry.releases.headers import read_json

__all__ = ["complete_tracking", "git_commit", "tracking_of"]

CHECKPOINT = "mlc-checkpoint/"
LONGEST = 1000
"""Characters of a name; longer ones are no names."""


def tracking_of(path: str | os.PathLike[str]) -> Tracking:
    """Return what the manifest of the checkpoint *path* says of its run: nothing if it is no committed checkpoint.

    The metrics are those that were measured when the checkpoint was saved. Those that are no finite numbers, and
    everything that is not of the type that it should be, are left out.
    """
    manifest = Path(path) / "manifest.json"
    if not os.path.isfile(manifest):  # noqa: PTH113 - which says no where a name is too long, and pathlib raises
        return Tracking()
    try:
        record = read_json(manifest)
    except SchemaError:
        return Tracking()
    if not isinstance(record, dict) or not str(record.get("format")).startswith(CHECKPOINT):
        return Tracking()
    metrics = record.get("metrics")
    return Tracking(
        run=_text(record.get("run")),
        checkpoint=_text(record.get("id")),
        epoch=_count(record.get("epoch")),
        step=_count(record.get("step")),
        metrics={name: float(value) for name, value in metrics.items() if _text(name) and _is_number(value)}
        if isinstance(metrics, dict)
        else {},
    )


def complete_tracking(tracking: Tracking | None, found: Tracking) -> Tracking:
    """Return *tracking* with what it does not say taken from *found*, metric by metric."""
    if tracking is None:
        return found
    missing = {
        name: getattr(found, name)
        for name in ("run", "dataset", "commit", "checkpoint", "epoch", "step")
        if getattr(tracking, name) is None or getattr(tracking, name) == ""
    }
    return attrs.evolve(
        tracking,
        **missing,
        metrics={**found.metrics, **tracking.metrics},
        parameters={**found.parameters, **tracking.parameters},
    )


def git_commit(folder: str | os.PathLike[str] = ".") -> str:
    """Return the commit that is checked out in *folder*, with `-dirty` behind it if tracked files were changed since.

    Raises:
        SourceError: If there is no git, or *folder* is in no repository with a commit.
    """
    commit = _ask_git(folder, "rev-parse", "--verify", "HEAD")
    changed = _ask_git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit


def _ask_git(folder: str | os.PathLike[str], *arguments: str) -> str:
    try:
        answer = subprocess.run(
            ["git", *arguments],  # noqa: S607 - whichever git the user has
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        msg = "the commit cannot be told: there is no git here; say it, as in --commit 1f3c9ab"
        raise SourceError(msg) from error
    except (OSError, subprocess.CalledProcessError) as error:
        why = str(getattr(error, "stderr", "") or error).strip()
        msg = f"the commit cannot be told: {why or 'git failed'}; say it, as in --commit 1f3c9ab"
        raise SourceError(msg) from error
    return answer.stdout.strip()


def _text(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= LONGEST and value.isprintable() else ""


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None


def _is_number(value: Any) -> bool:
    return type(value) in {int, float} and math.isfinite(value)
