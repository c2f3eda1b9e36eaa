"""The lock file: which versions were chosen, by digest, so that everybody loads the same ones."""

from __future__ import annotations

import os
import re
import secrets
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
import orjson

from mlc_registry.artifacts.transfers import sync_directory
from mlc_registry.errors import LockError, RegistryError, YankedVersionWarning
from mlc_registry.names import check_model
from mlc_registry.requirements import require_path
from mlc_registry.semver.ranges import Range
from mlc_registry.semver.references import read_reference
from mlc_registry.semver.versions import Version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_registry.dependencies.resolving import Solution
    from mlc_registry.protocols import Store

__all__ = ["FORMAT", "Lock", "Locked", "check_against", "read_lock", "write_lock"]

FORMAT = "mlc-lock/1"
LARGEST = 16 << 20
"""Bytes; a model takes about three hundred."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
ITSELF = ""
"""Who asked for what was asked for itself."""
LAYOUT = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


@attrs.frozen(kw_only=True)
class Locked:
    """One version in a lock file."""

    version: Version
    digest: str
    required: Mapping[str, str]
    """Who needs it, as in `app 2.1.0`, and by which range; nothing for what was asked for itself."""


@attrs.frozen(kw_only=True)
class Lock:
    """What a lock file says."""

    registry: str
    """Where it was made, without secrets; a hint for people, and never opened."""
    requirements: Mapping[str, str]
    """What was asked for: a reference by the name of each model. The first has the choice."""
    models: Mapping[str, Locked]
    """What was chosen, by name."""
    include_prereleases: bool = False
    """Whether ranges could find pre-releases."""

    @classmethod
    def of(cls, address: str, asked: Mapping[str, str], found: Solution, *, include_prereleases: bool = False) -> Lock:
        """Return what to keep of *found*, which was chosen for what was *asked*."""
        return cls(
            registry=address,
            requirements=dict(asked),
            include_prereleases=include_prereleases,
            models={
                name: Locked(
                    version=one.version,
                    digest=one.digest,
                    required={wish.by: wish.text for wish in found.wishes[name]},
                )
                for name, one in found.chosen.items()
            },
        )

    def get(self, name: str, path: str) -> Locked:
        """Return the locked version of the model *name*.

        Raises:
            LockError: If there is none; *path* is where the lock was read.
        """
        if name not in self.models:
            msg = f"{path} locks no model {name!r}; it has {', '.join(sorted(self.models))}"
            raise LockError(msg)
        return self.models[name]

    def encode(self) -> bytes:
        """Return the lock as the text of a file; the same lock is the same text."""
        content = {
            "format": FORMAT,
            "registry": self.registry,
            # A list, as the first has the choice, and names are sorted.
            "requirements": [f"{name}@{text}" for name, text in self.requirements.items()],
            "include_prereleases": self.include_prereleases,
            "models": {
                name: {"version": str(one.version), "digest": one.digest, "required": dict(one.required)}
                for name, one in self.models.items()
            },
        }
        return orjson.dumps(content, option=LAYOUT)


def read_lock(path: str | os.PathLike[str]) -> Lock:
    """Return what the lock file *path* says.

    Raises:
        LockError: If it cannot be read, is none, or is damaged; says where.
    """
    try:
        with Path(require_path(path, "a lock file", error=LockError)).open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except OSError as error:
        msg = f"the lock file {path} cannot be read: {getattr(error, 'strerror', None) or error}"
        raise LockError(msg) from error
    if len(content) > LARGEST:
        msg = f"the lock file {path} has more than {LARGEST:,} bytes, which no lock file has"
        raise LockError(msg)
    try:
        return _decode(orjson.loads(content))
    except (RegistryError, ValueError) as error:
        msg = f"the lock file {path} is damaged: {error}. Make it anew with `mlc registry lock`"
        raise LockError(msg) from error


def write_lock(lock: Lock, path: str | os.PathLike[str]) -> None:
    """Write *lock* to the file *path*, at once or not at all.

    Raises:
        LockError: If that fails; what was there is as it was.
    """
    target = Path(require_path(path, "a lock file", error=LockError))
    try:
        fresh = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
        try:
            with fresh.open("xb") as stream:
                stream.write(lock.encode())
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(target)
            sync_directory(target.absolute().parent)
        finally:
            fresh.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        msg = f"the lock file {str(path)!r} cannot be written: {getattr(error, 'strerror', None) or error}"
        raise LockError(msg) from error


def check_against(store: Store, lock: Lock, path: str) -> None:
    """Compare *lock*, which was read from *path*, with what is in *store*.

    Raises:
        LockError: If a version was removed, is not there or is another one, or is not what those that need it ask for.

    Warns:
        YankedVersionWarning: If a version was yanked since.
    """
    problems: list[str] = []
    for name, text in lock.requirements.items():
        problems += _misfit(lock, "the file itself", name, text)
    for name, one in lock.models.items():
        what = f"{name} {one.version}"
        found = store.find(name, one.version)
        if found is None:
            problems.append(f"{what} is not there")
        elif found.digest != one.digest:
            problems.append(f"{what} is {found.digest}, but {one.digest} was locked")
        elif found.removed:
            problems.append(f"{what} was removed ({found.yank_reason or 'no reason was given'})")
        else:
            for other, text in sorted(found.dependencies.items()):
                problems += _misfit(lock, what, other, text)
            if found.yanked:
                msg = f"{what}, which {path} locks, was yanked: {found.yank_reason or 'no reason was given'}"
                warnings.warn(msg, YankedVersionWarning, stacklevel=3)
    if problems:
        lines = "\n".join(f"  {one}" for one in problems)
        msg = f"{path} does not fit the registry any more:\n{lines}\nMake it anew with `mlc registry lock --update`"
        raise LockError(msg)


def _misfit(lock: Lock, by: str, name: str, text: str) -> list[str]:
    one = lock.models.get(name)
    if one is None:
        return [f"{by} needs {name} {text}, and no {name} is locked"]
    wanted = read_reference(text, include_prereleases=lock.include_prereleases)
    if wanted.kind in {"range", "exact"} and wanted.range is not None and one.version not in wanted.range:
        return [f"{by} needs {name} {text}, but {one.version} is locked"]
    return []


def _decode(content: object) -> Lock:
    top = _read(content, "it", dict)
    form = top.get("format")
    if form != FORMAT:
        _refuse(f"its format is {form!r}, and {FORMAT!r} is what can be read here")
    _expect(top, "it", {"format", "registry", "requirements", "include_prereleases", "models"})
    requirements = {}
    for spec in _read(top["requirements"], "requirements", list):
        name, _, text = _read(spec, "a requirement", str).partition("@")
        read_reference(text)
        if name in requirements:
            _refuse(f"{name!r} is required twice")
        requirements[check_model(name)] = text
    models = {
        check_model(name): _decode_locked(name, one) for name, one in _read(top["models"], "models", dict).items()
    }
    missing = sorted(set(requirements) - set(models))
    if missing or not requirements:
        _refuse(f"it requires {', '.join(missing) or 'nothing'}, which is not among its models")
    return Lock(
        registry=_read(top["registry"], "registry", str),
        requirements=requirements,
        include_prereleases=_read(top["include_prereleases"], "include_prereleases", bool),
        models=dict(sorted(models.items())),
    )


def _decode_locked(name: str, content: object) -> Locked:
    found = _read(content, name, dict)
    _expect(found, name, {"version", "digest", "required"})
    digest = _read(found["digest"], f"the digest of {name}", str)
    if DIGEST.fullmatch(digest) is None:
        _refuse(f"the digest of {name} is {digest[:80]!r}")
    required = _read(found["required"], f"required of {name}", dict)
    for by, text in required.items():
        if by == ITSELF:
            read_reference(_read(text, f"required of {name}", str))
        else:
            Range.parse(_read(text, f"required of {name}", str))
    version = Version.parse(_read(found["version"], f"the version of {name}", str))
    return Locked(version=version, digest=digest, required=dict(sorted(required.items())))


def _read(value: object, what: str, kind: type) -> Any:
    if not isinstance(value, kind):
        _refuse(f"{what} is a {type(value).__name__}, not a {kind.__name__}")
    return value


def _expect(found: Mapping[str, object], what: str, names: set[str]) -> None:
    wrong = sorted(found.keys() ^ names)
    if wrong:
        _refuse(f"{what} has no {wrong[0]!r}" if wrong[0] in names else f"{what} has an unknown {wrong[0]!r}")


def _refuse(why: str) -> NoReturn:
    raise ValueError(why)
