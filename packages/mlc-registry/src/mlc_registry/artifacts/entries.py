"""What a version looks like as one entry of a storage: its name, its manifest, and its files as streams."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import attrs
import orjson

from mlc_registry.artifacts.digests import root_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlc_registry.records import File
    from mlc_registry.semver.versions import Version

__all__ = ["View", "decode_manifest", "encode_manifest", "entry_name"]

FORMAT = "mlc-registry-version/1"
LONGEST = 118  # characters in the name of an entry, so that one more part fits: storages take 128


class View:
    """A stream of what is in memory already."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._place = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""
        end = len(self._content) if size < 0 else self._place + size
        piece = bytes(self._content[self._place : end])
        self._place += len(piece)
        return piece


def entry_name(model: str, version: Version) -> str:
    """Return the name of the entry for *version*, as in net@1.2.0; a long version goes by its digest."""
    name = f"{model}@{version}"
    if len(name) <= LONGEST:
        return name
    return f"{model}@{hashlib.sha256(str(version).encode()).hexdigest()[: LONGEST - len(model) - 1]}"


def encode_manifest(
    model: str, version: Version, files: Sequence[File], *, modes: Mapping[str, int], stored: Callable[[str], str]
) -> bytes:
    """Return the commit record of an entry: JSON that says what it is without any database.

    Args:
        model: Whose version it is.
        version: Which.
        files: Those of the version.
        modes: The permissions of those that have unusual ones, by path.
        stored: Returns the name of a file in the entry, by its path.
    """
    facts = {
        "format": FORMAT,
        "model": model,
        "version": str(version),
        "digest": root_digest(files),
        "created_at": time.time(),
        "size": sum(one.size for one in files),
        "modes": dict(modes),
        "files": [{**attrs.asdict(one), "name": stored(one.path)} for one in files],
    }
    return orjson.dumps(facts, option=orjson.OPT_INDENT_2)


def decode_manifest(data: memoryview) -> dict[str, Any]:
    """Return what is needed of a manifest that `encode_manifest` made.

    Raises:
        ValueError: If it is another's, or damaged.
    """
    facts = orjson.loads(data)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        msg = f"it is not of the format {FORMAT!r}"
        raise ValueError(msg)
    modes = facts.get("modes")
    if (
        not isinstance(facts.get("size"), int)
        or not isinstance(facts.get("created_at"), float)
        or not isinstance(modes, dict)
        or not all(isinstance(one, int) for one in modes.values())
    ):
        msg = "a size, a time or the permissions are missing"
        raise ValueError(msg)
    return facts
