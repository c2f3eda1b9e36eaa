"""Where a run comes from: the commit it was started from, the versions of packages, the plugins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from mlc_hooks.installed import find_plugins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_trainer.config import ExperimentConfig

__all__ = ["Provenance", "factories_of", "git_state"]

OURS = ("mlc_hooks", "mlc_core", "mlc_losses", "mlc_trainer")
ELSEWHERE = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")
"""What git sets for its hooks, and then would look at instead of the directory that it is asked about."""
PATIENCE = 5.0
"""Seconds that git may take."""


def _current_directory() -> Path | None:
    try:
        return Path.cwd()
    except OSError:
        return None


@attrs.define
class Provenance:
    """Looked up when it is first asked for, once."""

    modules: tuple[str, ...] = ()
    """Top-level modules whose versions are of interest, beside ours."""
    place: Path | None = attrs.field(factory=_current_directory)
    """The directory that the experiment was started from; None where it is gone."""
    _facts: Mapping[str, str] | None = None

    @property
    def facts(self) -> Mapping[str, str]:
        """Facts by key: `git.commit` and `git.changes`, `packages.NAME`, `plugins.NAME`."""
        if self._facts is None:
            packages = {name: _version(name) for name in sorted({*OURS, *self.modules})}
            self._facts = {
                **({} if self.place is None else git_state(self.place)),
                **{f"packages.{_as_distribution(name)}": one for name, one in packages.items() if one is not None},
                **_plugins(),
            }
        return self._facts


def factories_of(config: ExperimentConfig) -> tuple[str, ...]:
    """Return the top-level modules of the classes that *config* names by their import path."""
    paths = [config.model.factory, config.data.factory, config.optimizer.name]
    paths += [] if config.metrics is None else [config.metrics.factory]
    paths += [] if config.scheduler is None else [config.scheduler.name]
    return tuple(sorted({path.partition(":")[0].partition(".")[0] for path in paths if ":" in path}))


def git_state(place: Path) -> dict[str, str]:
    """Return the commit that *place* is at and whether tracked files were changed since; nothing where git is no help.

    Files that git does not track count for nothing. The network is not used, and nothing is written.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    command = ["git", "-c", "core.fsmonitor=false", "status", "--porcelain=v2", "--branch"]
    command += ["--untracked-files=no", "--no-renames", "--no-ahead-behind"]
    try:
        done = subprocess.run(
            command, cwd=place, env={**inherited, **quiet}, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=PATIENCE, check=True, text=True, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = done.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), None)
    if commit in {None, "(initial)"}:  # no repository, or one without a commit yet
        return {}
    changed = any(not line.startswith("#") for line in lines)
    return {"git.commit": commit, "git.changes": "some" if changed else "none"}


def _as_distribution(module: str) -> str:
    return re.sub(r"[-_.]+", "-", module).lower()


def _version(module: str) -> str | None:
    """Return the version of what brings *module*, by its metadata or as it says itself; None where nobody says."""
    try:
        return metadata.version(module)
    except (metadata.PackageNotFoundError, ValueError):
        said = getattr(sys.modules.get(module), "__version__", None)
        return None if said is None else str(said)


@cache
def _plugins() -> Mapping[str, str]:
    """Return the version of each plugin that is installed, by the names of their entry points."""
    found = find_plugins()
    return {f"plugins.{one.name}": one.distribution for one in found}
