"""Facts about models, versions and stages: frozen, plain, as the database has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs

from mlc_registry.errors import SignatureError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from typing import Literal

    from mlc_registry.history.tars import Readable
    from mlc_registry.semver.versions import Version

__all__ = [
    "Approval",
    "Architecture",
    "Audited",
    "Change",
    "Content",
    "Draft",
    "File",
    "Json",
    "Leftover",
    "Line",
    "Listener",
    "Model",
    "ModelVersion",
    "Moved",
    "Note",
    "Objection",
    "Origin",
    "Page",
    "Promotion",
    "Query",
    "Resolved",
    "Row",
    "Signature",
    "Stage",
    "Stated",
    "Tracking",
]

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
"""What metadata may hold."""
Moved: TypeAlias = "Literal['promoted', 'rolled back', 'demoted']"
"""What can happen to a stage."""
Stated: TypeAlias = "Literal['tagged', 'noted', 'approved', 'withdrawn', 'signed']"
"""What can be said of a version later."""
Row: TypeAlias = "dict[str, str | int | bool | None]"  # of a table, as JSON has it


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
class Tracking:
    """How a version came to be: what makes it possible to make it again, and to judge it."""

    run: str = ""
    """The id or the address of the training run."""
    dataset: str = ""
    """The data it was trained on, by name and version."""
    commit: str = ""
    """The commit of the training code."""
    checkpoint: str = ""
    """The id of the checkpoint that was published."""
    epoch: int | None = None
    step: int | None = None
    metrics: Mapping[str, float] = attrs.field(factory=dict)
    parameters: Mapping[str, Json] = attrs.field(factory=dict)
    """What the run was configured with."""


@attrs.frozen(kw_only=True)
class Architecture:
    """The class that a version's weights belong to."""

    model_class: str
    """The module that it is imported from, a colon, and its name there, as entry points have it."""
    config: Mapping[str, Json] = attrs.field(factory=dict)
    """What it is called with, by keyword."""


@attrs.frozen(kw_only=True)
class Origin:
    """The version that another one was made from, exactly."""

    model: str
    version: Version
    digest: str


@attrs.frozen(kw_only=True)
class Content:
    """One published file, opened."""

    stream: Readable
    size: int
    """Bytes."""
    mode: int
    """Its permissions, of which only those to read and to run it are kept."""


@attrs.frozen(kw_only=True)
class Leftover:
    """Something in the artifact store that no version needs."""

    kind: Literal["staging", "unpublished"]
    """Files that were on their way, or files in place that no version needs."""
    place: str
    """Where it is, below the artifacts."""
    size: int
    """Bytes, as far as that can be told."""


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
    tracking: Tracking = attrs.field(factory=Tracking)
    architecture: Architecture | None = None
    dependencies: Mapping[str, str] = attrs.field(factory=dict)
    parent: Origin | None = None
    directory: str = ""
    """Where the files are, once they are in place."""
    tags: Mapping[str, str] = attrs.field(factory=dict)
    """What is stated about it at once; a store without `statements` is never given any."""
    notes: str = ""
    """As *tags*."""


@attrs.frozen(kw_only=True)
class ModelVersion:
    """A published version of a model. Only whether it is yanked or removed can change."""

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
    removed: bool = False
    """Whether its files are gone for good; it is yanked then, too."""
    tracking: Tracking = attrs.field(factory=Tracking)
    architecture: Architecture | None = None
    dependencies: Mapping[str, str] = attrs.field(factory=dict)
    """Which versions of other models it works with: a range by the name of each."""
    parent: Origin | None = None
    """What it was made from, as by fine-tuning or migration."""


@attrs.frozen(kw_only=True)
class Resolved:
    """What a reference meant at the moment of asking: pin this, not the reference."""

    model: str
    version: Version
    digest: str
    path: Path
    """The published file or directory; where the artifacts are behind a URL, the place to which `get_model_path` brings
    it."""
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
    kind: Moved | Stated | Literal["registered", "yanked", "unyanked", "removed"]
    stage: str
    """The stage that was moved, or nothing."""
    before: Version | None
    """What the stage pointed to."""
    after: Version
    """The version that it is about; where a stage was demoted, the one that it pointed to."""
    actor: str
    reason: str
    at: datetime
    details: str = ""
    """What else was stated: the notes, the tags as JSON, the signature."""
    number: int = 0
    """Its place in the history of the registry."""


@attrs.frozen(kw_only=True)
class Note:
    """One edition of the release notes of a version; the last one counts."""

    text: str
    """Markdown."""
    actor: str
    at: datetime


@attrs.frozen(kw_only=True)
class Approval:
    """Somebody's word that a version may be promoted to a stage."""

    stage: str
    actor: str
    reason: str
    at: datetime


@attrs.frozen
class Objection:
    """One reason why a version may not be promoted."""

    rule: str
    """What objects: "stage", "yanked", "after", "prereleases", or the name of a check."""
    reason: str
    """Why, and what would help."""

    def __str__(self) -> str:
        """Return both."""
        return f"{self.rule}: {self.reason}"


def _find_none(**_: object) -> object:
    msg = "it is not signed"
    raise SignatureError(msg)


@attrs.frozen(kw_only=True)
class Promotion:
    """A version that somebody wants to promote to a stage: what checks judge."""

    version: ModelVersion
    stage: str
    current: ModelVersion | None
    """The version that the stage points to now; None if it points to none yet."""
    actor: str
    reason: str
    approvals: tuple[Approval, ...] = ()
    """Those of this version for this stage that were not withdrawn, one of each actor."""
    notes: str = ""
    """The release notes of the version."""
    _path: Path | Callable[[], Path]
    verify: Callable[[], None]
    """Hash all its files; raises `CorruptArtifactError` if one is not what was published."""
    verify_signature: Callable[..., object] = _find_none
    """Find a signature over its files, which are hashed; takes what `Signing.verify` takes behind the reference, and
    raises `SignatureError` if there is none."""

    @property
    def path(self) -> Path:
        """The published file or directory, brought to this machine when it is asked for."""
        return self._path() if callable(self._path) else self._path


@attrs.frozen(kw_only=True)
class Signature:
    """A signature over the files of a version."""

    bundle: str
    """A Sigstore bundle, as JSON."""
    actor: str
    at: datetime


@attrs.frozen(kw_only=True)
class Query:
    """Which versions are looked for; every condition that is given must hold."""

    model: str | None = None
    tags: Mapping[str, str | None] = attrs.field(factory=dict)
    """The value of each tag, or None where any will do."""
    stage: str | None = None
    """A stage that points to the version now."""
    metrics: Sequence[tuple[str, Literal["<", "<=", "==", ">=", ">"], float]] = ()
    dataset: str | None = None
    run: str | None = None
    commit: str | None = None
    checkpoint: str | None = None
    words: Sequence[str] = ()
    """Words of the name, the description, the notes, the tags and the data set; the last may be a beginning."""
    yanked: bool = False
    """Whether yanked versions are found too."""


@attrs.frozen(kw_only=True)
class Page:
    """Some of the versions that were found, the last published first."""

    versions: Sequence[ModelVersion]
    next: str | None
    """What to ask with for those that follow; None if there are no more."""


@attrs.frozen(kw_only=True)
class Line:
    """One line of the history of a whole registry, sealed."""

    number: int
    """Its place in the history; the first is 1."""
    model: str
    """The model, or nothing where the line is about the registry itself."""
    kind: str
    """As of a `Change`, or "configured"."""
    stage: str
    before: str | None
    after: str
    content: str
    """The digest of the version *after*, as it was when the line was written."""
    actor: str
    reason: str
    at: datetime
    details: str
    """As of a `Change`; of a version that was registered, the digest of everything that was said about it."""
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
