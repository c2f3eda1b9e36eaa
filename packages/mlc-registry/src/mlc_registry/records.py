"""Facts about models, versions and stages: frozen, plain, as the database has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from typing import Literal

    from mlc_registry.versions import Version

__all__ = [
    "Audited",
    "Change",
    "Draft",
    "File",
    "Json",
    "Line",
    "Listener",
    "Model",
    "ModelVersion",
    "Resolved",
    "Row",
    "Stage",
]

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
"""What metadata may hold."""
Row: TypeAlias = "dict[str, str | int | bool | None]"
"""One row of a table, as JSON has it."""


@attrs.frozen
class File:
    """One published file."""

    path: str
    """Below the version's directory, with slashes."""
    size: int
    """Bytes."""
    digest: str
    """SHA-256 of the content, as ``sha256:`` and 64 hexadecimal digits."""


@attrs.frozen(kw_only=True)
class Draft:
    """A version that is ready to be published."""

    model: str
    version: Version
    digest: str
    files: tuple[File, ...]
    entry: str
    metadata: Mapping[str, Json]
    description: str
    created_by: str
    directory: str = ""
    """Where the files are, once they are in place."""


@attrs.frozen(kw_only=True)
class ModelVersion:
    """A published version of a model. Only whether it is yanked can change."""

    model: str
    version: Version
    digest: str
    """SHA-256 over the list of its files with their digests: the identity of what was published."""
    size: int
    """Bytes of all its files."""
    directory: str
    """Where its files lie, below the registry's artifacts."""
    entry: str
    """The file that was published, below *directory*, or nothing where a directory was."""
    metadata: Mapping[str, Json]
    description: str
    created_at: datetime
    created_by: str
    yanked: bool = False
    """Whether ranges, `latest` and `newest` pass it over."""
    yank_reason: str = ""


@attrs.frozen(kw_only=True)
class Resolved:
    """What a reference meant at the moment of asking: pin this, not the reference."""

    model: str
    version: Version
    digest: str
    path: Path
    """The published file or directory."""
    reference: str
    """What was asked for."""
    yanked: bool = False


@attrs.frozen(kw_only=True)
class Model:
    """A model of which something was published."""

    name: str
    versions: int
    """How many, the yanked ones included."""
    latest: Version | None
    """The highest release that is not yanked."""
    newest: Version | None
    """What was published last and is not yanked."""


@attrs.frozen(kw_only=True)
class Stage:
    """A named pointer to a version, and who put it there."""

    model: str
    name: str
    version: Version
    actor: str
    reason: str
    at: datetime


@attrs.frozen(kw_only=True)
class Change:
    """One line of a model's history."""

    model: str
    kind: Literal["registered", "promoted", "rolled back", "yanked", "unyanked"]
    stage: str
    """The stage that was moved, or nothing."""
    before: Version | None
    """What the stage pointed to."""
    after: Version
    """The version that it is about."""
    actor: str
    reason: str
    at: datetime


@attrs.frozen(kw_only=True)
class Line:
    """One line of the history of a whole registry, sealed."""

    number: int
    """Its place in the history; the first is 1."""
    model: str
    kind: str
    """As of a `Change`."""
    stage: str
    before: str | None
    after: str
    content: str
    """The digest of the version *after*, as it was when the line was written."""
    actor: str
    reason: str
    at: datetime
    digest: str
    """SHA-256 over all of this and over the digest of the line before."""


@attrs.frozen(kw_only=True)
class Audited:
    """A history that was found to be whole."""

    lines: int
    versions: int
    """How many versions are as their lines say."""
    head: str
    """The digest of the last line. Who notes it elsewhere can prove later that nothing before it was changed."""


@attrs.frozen(kw_only=True)
class Listener:
    """Somebody who is to hear every line of the history, in order."""

    name: str
    url: str
    position: int
    """The number of the last line that was delivered."""
    pending: int
    """How many lines are not."""
