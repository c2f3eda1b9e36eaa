"""Scripts that turn the files of one major version into those of another, and the shortest way along them.

A script is a file `MODEL/FROM_to_TO.py`, as `brain-tissue/1_to_2.py`, below a directory that the user names, or in one
that a plugin offers for the model. Scripts never come from what is in a registry: that would let whoever publishes run
code wherever something is migrated.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from mlc_hooks import Catalog
from mlc_registry.errors import MigrationError
from mlc_registry.names import check_model
from mlc_registry.requirements import require_kind, require_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MIGRATIONS", "Step", "find_steps", "list_steps", "model_migrations"]

MIGRATIONS = "MLC_MIGRATIONS"
"""The environment variable with directories of scripts, separated as in PATH."""
SCRIPT = re.compile(r"(0|[1-9][0-9]{0,8})_to_(0|[1-9][0-9]{0,8})\.py")
LARGEST = 1 << 20
"""Bytes of a script."""


@attrs.frozen(kw_only=True)
class Step:
    """One script."""

    model: str
    before: int
    """The major version whose files it reads."""
    after: int
    """The major version whose files it writes."""
    path: Path
    description: str
    """What the script says of itself, or nothing."""
    digest: str
    """SHA-256 of the script."""

    @property
    def name(self) -> str:
        """As in `1_to_2`."""
        return f"{self.before}_to_{self.after}"


def model_migrations() -> Catalog[Path]:
    """Return the directories of scripts that plugins offer, by model."""
    return Catalog("directory of model migrations", hook="mlc_model_migrations", home="mlc_registry")


def list_steps(model: str, scripts: Iterable[str | os.PathLike[str]] = ()) -> Sequence[Step]:
    """Return all scripts for *model*: in *scripts*, in the directories of the environment, and of plugins.

    Args:
        model: The model.
        scripts: Directories with a directory for each model.

    Raises:
        InvalidNameError: If *model* cannot name a model.
        MigrationError: If one of *scripts* is no directory, a script is none, or one step has two scripts.
    """
    check_model(model)
    require_kind(scripts, (str, os.PathLike, Iterable), "a list of directories of scripts", error=MigrationError)
    named = (scripts,) if isinstance(scripts, (str, os.PathLike)) else scripts
    given = tuple(require_path(one, "a directory of scripts", error=MigrationError) for one in named)
    found: dict[tuple[int, int], Step] = {}
    for folder in (*given, *(one for one in os.environ.get(MIGRATIONS, "").split(os.pathsep) if one)):
        if not Path(folder).is_dir():
            msg = f"{folder} is no directory; migrations are scripts such as {folder}/{model}/1_to_2.py"
            raise MigrationError(msg)
        _add(found, model, Path(folder) / model)
    for offer in model_migrations().offers():
        if offer.name == model:
            _add(found, model, Path(offer.factory()))
    return tuple(found[key] for key in sorted(found))


def find_steps(model: str, before: int, after: int, scripts: Iterable[str | os.PathLike[str]] = ()) -> Sequence[Step]:
    """Return the shortest way from the major version *before* to *after*, in order.

    Raises:
        InvalidNameError: If *model* cannot name a model.
        MigrationError: If there is none, or two that are equally short; says which step is missing, or what they are.
    """
    if before == after:
        msg = f"{model} {before} and {after} are one major version: there is nothing to migrate, by what ^ promises"
        raise MigrationError(msg)
    known = list_steps(model, scripts)
    ways = _shortest(known, before, after)
    if not ways:
        raise MigrationError(_explain_gap(model, known, before, after))
    if len(ways) > 1:
        shown = " or ".join(", ".join(step.name for step in way) for way in ways[:3])
        msg = f"from {model} {before} to {after} there are several shortest ways: {shown}; go step by step"
        raise MigrationError(msg)
    return ways[0]


def _add(found: dict[tuple[int, int], Step], model: str, folder: Path) -> None:
    for path in sorted(folder.glob("*.py")):
        match = SCRIPT.fullmatch(path.name)
        if match is None:
            if "_to_" in path.name:
                msg = f"{path} is named as no migration is; name it by major versions, as 1_to_2.py"
                raise MigrationError(msg)
            continue
        step = _read(model, int(match[1]), int(match[2]), path)
        there = found.get((step.before, step.after))
        if there is not None and not there.path.samefile(path):
            msg = f"{model} {step.name} has two scripts, {there.path} and {path}; take one away"
            raise MigrationError(msg)
        found[step.before, step.after] = step


def _read(model: str, before: int, after: int, path: Path) -> Step:
    try:
        source = path.read_bytes()
        if len(source) > LARGEST:
            msg = f"{path} has {len(source):,} bytes, which is no script"
            raise MigrationError(msg)
        tree = ast.parse(source, filename=str(path))
    except (OSError, SyntaxError, ValueError) as error:
        msg = f"{path} cannot be read: {error}"
        raise MigrationError(msg) from error
    if before == after:
        msg = f"{path} leads nowhere: from {before} to {after}"
        raise MigrationError(msg)
    if not any(isinstance(node, ast.FunctionDef) and node.name == "migrate" for node in tree.body):
        msg = f"{path} defines no function migrate(source, target)"
        raise MigrationError(msg)
    digest = f"sha256:{hashlib.sha256(source).hexdigest()}"
    description = _find_description(tree)
    return Step(model=model, before=before, after=after, path=path, description=description, digest=digest)


def _find_description(tree: ast.Module) -> str:
    """Return the text that is assigned to DESCRIPTION, without running anything."""
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        named = any(isinstance(one, ast.Name) and one.id == "DESCRIPTION" for one in targets)
        value = node.value if named and isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return " ".join(value.value.split())
    return ""


def _shortest(known: Sequence[Step], before: int, after: int) -> list[tuple[Step, ...]]:
    """Return the shortest ways; of many that are equally short, a few."""
    leaving = _by_start(known)
    ways: list[tuple[Step, ...]] = [()]
    seen = {before}
    while ways:
        longer = [
            (*way, step)
            for way in ways
            for step in leaving.get(way[-1].after if way else before, ())
            if step.after not in seen
        ]
        there = [way for way in longer if way[-1].after == after]
        if there:
            return there
        seen |= {way[-1].after for way in longer}
        ways = _few_of_each(longer)
    return []


def _few_of_each(ways: Iterable[tuple[Step, ...]]) -> list[tuple[Step, ...]]:
    """Return two of the *ways* to each place: more say no more than that there are several."""
    kept: dict[int, list[tuple[Step, ...]]] = defaultdict(list)
    for way in ways:
        if len(kept[way[-1].after]) < 2:
            kept[way[-1].after].append(way)
    return [way for those in kept.values() for way in those]


def _by_start(known: Sequence[Step]) -> Mapping[int, Sequence[Step]]:
    found = defaultdict(list)
    for step in known:
        found[step.before].append(step)
    return found


def _explain_gap(model: str, known: Sequence[Step], before: int, after: int) -> str:
    if not known:
        return (
            f"there are no migrations of {model}: from {before} to {after} a script {model}/{before}_to_{after}.py is "
            f"missing, below a directory that --scripts or {MIGRATIONS} names"
        )
    reached = _closure(before, [(step.before, step.after) for step in known])
    leading = _closure(after, [(step.after, step.before) for step in known])
    start, end = min(((a, b) for a in reached for b in leading), key=lambda pair: (abs(pair[1] - pair[0]), pair))
    names = ", ".join(step.name for step in known)
    return (
        f"there is no way from {model} {before} to {after}: a script {model}/{start}_to_{end}.py is missing. "
        f"There are: {names}"
    )


def _closure(start: int, edges: Sequence[tuple[int, int]]) -> set[int]:
    reached = {start}
    while more := {b for a, b in edges if a in reached} - reached:
        reached |= more
    return reached
