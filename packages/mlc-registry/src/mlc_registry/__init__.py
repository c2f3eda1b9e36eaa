"""A model registry that understands semantic versions and never loses a release."""

from typing import TYPE_CHECKING

from mlc_hooks.lazy import lazy_exports

if TYPE_CHECKING:
    from mlc_registry.catalogs import registry_stores
    from mlc_registry.errors import (
        CorruptArtifactError,
        InvalidMetadataError,
        InvalidNameError,
        InvalidRangeError,
        InvalidReferenceError,
        InvalidVersionError,
        LooseVersionWarning,
        ModelNotFoundError,
        RegistryError,
        RegistryNotFoundError,
        RegistryWarning,
        SourceError,
        StageConflictError,
        StageNotFoundError,
        StoreError,
        UnchangedVersionWarning,
        VersionExistsError,
        VersionNotFoundError,
        YankedVersionError,
        YankedVersionWarning,
    )
    from mlc_registry.protocols import Store
    from mlc_registry.ranges import Interval, Range
    from mlc_registry.records import Change, Draft, File, Model, ModelVersion, Resolved, Stage
    from mlc_registry.references import Reference, parse_reference
    from mlc_registry.registry import ModelRegistry
    from mlc_registry.versions import Version

__all__ = [
    "Change",
    "CorruptArtifactError",
    "Draft",
    "File",
    "Interval",
    "InvalidMetadataError",
    "InvalidNameError",
    "InvalidRangeError",
    "InvalidReferenceError",
    "InvalidVersionError",
    "LooseVersionWarning",
    "Model",
    "ModelNotFoundError",
    "ModelRegistry",
    "ModelVersion",
    "Range",
    "Reference",
    "RegistryError",
    "RegistryNotFoundError",
    "RegistryWarning",
    "Resolved",
    "SourceError",
    "Stage",
    "StageConflictError",
    "StageNotFoundError",
    "Store",
    "StoreError",
    "UnchangedVersionWarning",
    "Version",
    "VersionExistsError",
    "VersionNotFoundError",
    "YankedVersionError",
    "YankedVersionWarning",
    "parse_reference",
    "registry_stores",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "catalogs": "registry_stores",
        "errors": (
            "CorruptArtifactError InvalidMetadataError InvalidNameError InvalidRangeError "
            "InvalidReferenceError InvalidVersionError LooseVersionWarning ModelNotFoundError "
            "RegistryError RegistryNotFoundError RegistryWarning SourceError StageConflictError "
            "StageNotFoundError StoreError UnchangedVersionWarning VersionExistsError "
            "VersionNotFoundError YankedVersionError YankedVersionWarning"
        ),
        "protocols": "Store",
        "ranges": "Interval Range",
        "records": "Change Draft File Model ModelVersion Resolved Stage",
        "references": "Reference parse_reference",
        "registry": "ModelRegistry",
        "versions": "Version",
    },
)
