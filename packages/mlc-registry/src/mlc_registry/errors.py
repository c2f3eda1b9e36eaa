"""Everything the registry raises, and what it warns of.

::

    MlcError
    └── RegistryError
        ├── InvalidVersionError    ValueError         that is no semantic version; says where and why
        ├── InvalidRangeError      ValueError         that is no range of versions
        ├── InvalidNameError       ValueError         that cannot be the name of a model or a stage
        ├── InvalidReferenceError  ValueError         that names no version, range, keyword or stage
        ├── InvalidQueryError      ValueError         that cannot be searched for
        ├── InvalidMetadataError   TypeError          that cannot be kept as JSON without losing it
        ├── SourceError            ValueError         those files cannot be published
        ├── RegistryNotFoundError  FileNotFoundError  there is no registry, and none was to be made
        ├── ModelNotFoundError     LookupError        there is no such model; says what is close
        ├── VersionNotFoundError   LookupError        no version fits; says what exists and what would have fitted
        ├── StageNotFoundError     LookupError        there is no such stage, or nothing to roll back to
        ├── VersionExistsError     FileExistsError    that version holds other files, and stays what it is
        ├── StageConflictError     RuntimeError       somebody moved the stage first
        ├── YankedVersionError     ValueError         a stage may not be moved to a yanked version
        ├── CorruptArtifactError   ValueError         published files are not what they were
        ├── InvalidAddressError    ValueError         that cannot be the address of a listener
        ├── ListenerNotFoundError  LookupError        there is no such listener
        ├── ListenerExistsError    FileExistsError    there is a listener of that name already
        ├── ListenerBusyError      BlockingIOError    somebody else is delivering to that listener at this moment
        ├── DeliveryError          ConnectionError    a listener did not take a line; it comes again
        ├── ArchiveError           ValueError         that file is no whole export, or cannot be imported here
        ├── RemovedVersionError    LookupError        the files of that version were removed for good
        ├── InvalidTagError        ValueError         that cannot be a tag
        ├── InvalidNoteError       ValueError         that says nothing, so it is no release notes
        ├── RetentionError         ValueError         that is no rule for what stays
        ├── PolicyError            ValueError         that is no policy of stages; says which part
        ├── PolicyConflictError    RuntimeError       somebody changed the policy first
        ├── PromotionRefusedError  PermissionError    the policy keeps the version out of the stage; says every reason
        ├── ApprovalNotFoundError  LookupError        nobody of that name has approved it
        ├── DependencyError        ValueError         dependencies are missing or in conflict; explains which
        ├── LockError              ValueError         the lock file is damaged or does not fit the registry any more
        ├── SchemaError            ValueError         the tensors of those files cannot be listed
        ├── MigrationError         RuntimeError       a migration is missing or failed, and nothing was changed
        ├── SignatureError         ValueError         not signed, or not by who was expected
        ├── ConstructionError      TypeError          a model cannot be constructed from what was registered
        ├── AuditError             ValueError         the history was changed behind the registry's back; says where
        └── StoreError             OSError            the database failed, is busy, or was written by a newer version

    UserWarning
    └── RegistryWarning
        ├── LooseVersionWarning    a version such as `v1.0` was read as 1.0.0
        ├── YankedVersionWarning   what was asked for by version or stage has been yanked
        ├── UnchangedVersionWarning  the files were published before, and the new metadata was not kept
        ├── MissingMetricWarning     what was searched for by a metric that no version states
        ├── RepairedVersionWarning   published files were not what they were, and were put right
        ├── EmptyDirectoryWarning    directories without files were not published
        ├── UncheckedClassWarning    nobody has looked whether that class is there
        ├── BumpWarning            a version changes more than its number says
        └── PartialWeightsWarning  some of the weights were not loaded, as strict=False allows
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import MlcError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_registry.records import Objection

__all__ = [
    "ApprovalNotFoundError",
    "ArchiveError",
    "AuditError",
    "BumpWarning",
    "ConstructionError",
    "CorruptArtifactError",
    "DeliveryError",
    "DependencyError",
    "EmptyDirectoryWarning",
    "InvalidAddressError",
    "InvalidMetadataError",
    "InvalidNameError",
    "InvalidNoteError",
    "InvalidQueryError",
    "InvalidRangeError",
    "InvalidReferenceError",
    "InvalidTagError",
    "InvalidVersionError",
    "ListenerBusyError",
    "ListenerExistsError",
    "ListenerNotFoundError",
    "LockError",
    "LooseVersionWarning",
    "MigrationError",
    "MissingMetricWarning",
    "ModelNotFoundError",
    "PartialWeightsWarning",
    "PolicyConflictError",
    "PolicyError",
    "PromotionRefusedError",
    "RegistryError",
    "RegistryNotFoundError",
    "RegistryWarning",
    "RemovedVersionError",
    "RepairedVersionWarning",
    "RetentionError",
    "SchemaError",
    "SignatureError",
    "SourceError",
    "StageConflictError",
    "StageNotFoundError",
    "StoreError",
    "UnchangedVersionWarning",
    "UncheckedClassWarning",
    "VersionExistsError",
    "VersionNotFoundError",
    "YankedVersionError",
    "YankedVersionWarning",
]


class RegistryError(MlcError):
    """The root of what the registry raises on purpose."""

    def __str__(self) -> str:
        """Return the message, which can be printed even if it names a path that is no text."""
        return super().__str__().encode(errors="backslashreplace").decode()


class InvalidVersionError(RegistryError, ValueError):
    """That is no semantic version."""


class InvalidRangeError(RegistryError, ValueError):
    """That is no range of versions."""


class InvalidNameError(RegistryError, ValueError):
    """That cannot be the name of a model or of a stage."""


class InvalidReferenceError(RegistryError, ValueError):
    """That names no version, range, keyword or stage."""


class InvalidQueryError(RegistryError, ValueError):
    """That cannot be searched for."""


class InvalidMetadataError(RegistryError, TypeError):
    """That cannot be kept as JSON without losing some of it."""


class SourceError(RegistryError, ValueError):
    """Those files cannot be published."""


class RegistryNotFoundError(RegistryError, FileNotFoundError):
    """There is no registry at that place."""


class ModelNotFoundError(RegistryError, LookupError):
    """There is no model of that name."""


class VersionNotFoundError(RegistryError, LookupError):
    """No published version fits the reference."""


class StageNotFoundError(RegistryError, LookupError):
    """The model has no such stage, or the stage has no earlier version to go back to."""


class VersionExistsError(RegistryError, FileExistsError):
    """That version was published with other files."""


class StageConflictError(RegistryError, RuntimeError):
    """The stage does not point to the version that was expected."""


class YankedVersionError(RegistryError, ValueError):
    """A stage may not be moved to a version that has been yanked."""


class CorruptArtifactError(RegistryError, ValueError):
    """Published files are missing or are not what they were."""


class InvalidAddressError(RegistryError, ValueError):
    """That cannot be the address of a listener."""


class ListenerNotFoundError(RegistryError, LookupError):
    """There is no listener of that name."""


class ListenerExistsError(RegistryError, FileExistsError):
    """There is a listener of that name, and it goes on from where it is."""


class ListenerBusyError(RegistryError, BlockingIOError):
    """Somebody else is delivering to that listener at this moment."""


class DeliveryError(RegistryError, ConnectionError):
    """A listener did not take a line; the line is delivered again."""


class ArchiveError(RegistryError, ValueError):
    """That file is no whole export of a registry, or cannot be written or imported here."""


class AuditError(RegistryError, ValueError):
    """The history, or what it tells of, was changed behind the registry's back."""

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line
        """The number of the first line that does not fit, if it is a line."""


class PolicyError(RegistryError, ValueError):
    """That is no policy of stages."""


class PolicyConflictError(RegistryError, RuntimeError):
    """The policy was changed by somebody else meanwhile."""


class PromotionRefusedError(RegistryError, PermissionError):
    """The policy does not let the version into the stage."""

    def __init__(self, message: str, *, objections: Sequence[Objection] = ()) -> None:
        super().__init__(message)
        self.objections = tuple(objections)
        """Every one that was found."""


class ApprovalNotFoundError(RegistryError, LookupError):
    """There is no such approval, and none to withdraw."""


class RemovedVersionError(RegistryError, LookupError):
    """The files of that version were removed for good."""


class RetentionError(RegistryError, ValueError):
    """That is no rule for what stays."""


class InvalidTagError(RegistryError, ValueError):
    """That cannot be a tag."""


class InvalidNoteError(RegistryError, ValueError):
    """That says nothing, so it is no release notes."""


class DependencyError(RegistryError, ValueError):
    """What a version depends on is not there, or cannot be had together."""


class LockError(RegistryError, ValueError):
    """The lock file cannot be read, or does not fit the registry any more."""


class SchemaError(RegistryError, ValueError):
    """The tensors of those files cannot be listed."""


class MigrationError(RegistryError, RuntimeError):
    """A migration is missing or failed; what was to be migrated is as it was."""


class SignatureError(RegistryError, ValueError):
    """A version is not signed, or not by who was expected."""


class ConstructionError(RegistryError, TypeError):
    """A model cannot be constructed from what was registered."""


class StoreError(RegistryError, OSError):
    """The database failed, is busy, or cannot be read by this version."""


class RegistryWarning(UserWarning):
    """The root of what the registry warns of."""


class LooseVersionWarning(RegistryWarning):
    """A version that is not written as the specification says was read as one that is."""


class YankedVersionWarning(RegistryWarning):
    """The version that was asked for by number or by stage has been yanked."""


class UnchangedVersionWarning(RegistryWarning):
    """The same files were published before, and what differs beside them was not kept."""


class MissingMetricWarning(RegistryWarning):
    """Nothing was found, as no version states the metric at all."""


class RepairedVersionWarning(RegistryWarning):
    """Published files were missing or not what they were, and were put right from the same files."""


class EmptyDirectoryWarning(RegistryWarning):
    """Directories that hold no file were not published: a version is its files."""


class UncheckedClassWarning(RegistryWarning):
    """A class was registered by its name without anybody looking whether it is there."""


class BumpWarning(RegistryWarning):
    """A version is about to be published that changes more than its number says."""


class PartialWeightsWarning(RegistryWarning):
    """Some of a model's weights are not those that were published."""
