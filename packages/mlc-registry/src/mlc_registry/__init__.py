"""A model registry that understands semantic versions and never loses a release."""

from typing import TYPE_CHECKING

from mlc_hooks.lazy import lazy_exports

if TYPE_CHECKING:
    from mlc_registry.archive import Archive
    from mlc_registry.audit import Audit
    from mlc_registry.catalogs import registry_stores
    from mlc_registry.errors import (
        ArchiveError,
        AuditError,
        CorruptArtifactError,
        DeliveryError,
        InvalidAddressError,
        InvalidMetadataError,
        InvalidNameError,
        InvalidRangeError,
        InvalidReferenceError,
        InvalidVersionError,
        ListenerBusyError,
        ListenerExistsError,
        ListenerNotFoundError,
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
    from mlc_registry.outbox import Outbox
    from mlc_registry.protocols import Ledger, Listeners, Rows, Store
    from mlc_registry.ranges import Interval, Range
    from mlc_registry.records import Audited, Change, Draft, File, Line, Listener, Model, ModelVersion, Resolved, Stage
    from mlc_registry.references import Reference, parse_reference
    from mlc_registry.registry import ModelRegistry
    from mlc_registry.versions import Version
    from mlc_registry.webhooks import Webhook

__all__ = [
    "Archive",
    "ArchiveError",
    "Audit",
    "AuditError",
    "Audited",
    "Change",
    "CorruptArtifactError",
    "DeliveryError",
    "Draft",
    "File",
    "Interval",
    "InvalidAddressError",
    "InvalidMetadataError",
    "InvalidNameError",
    "InvalidRangeError",
    "InvalidReferenceError",
    "InvalidVersionError",
    "Ledger",
    "Line",
    "Listener",
    "ListenerBusyError",
    "ListenerExistsError",
    "ListenerNotFoundError",
    "Listeners",
    "LooseVersionWarning",
    "Model",
    "ModelNotFoundError",
    "ModelRegistry",
    "ModelVersion",
    "Outbox",
    "Range",
    "Reference",
    "RegistryError",
    "RegistryNotFoundError",
    "RegistryWarning",
    "Resolved",
    "Rows",
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
    "Webhook",
    "YankedVersionError",
    "YankedVersionWarning",
    "parse_reference",
    "registry_stores",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "archive": "Archive",
        "audit": "Audit",
        "catalogs": "registry_stores",
        "errors": (
            "ArchiveError AuditError CorruptArtifactError DeliveryError InvalidAddressError "
            "InvalidMetadataError InvalidNameError InvalidRangeError "
            "InvalidReferenceError InvalidVersionError ListenerBusyError ListenerExistsError "
            "ListenerNotFoundError LooseVersionWarning ModelNotFoundError "
            "RegistryError RegistryNotFoundError RegistryWarning SourceError StageConflictError "
            "StageNotFoundError StoreError UnchangedVersionWarning VersionExistsError "
            "VersionNotFoundError YankedVersionError YankedVersionWarning"
        ),
        "outbox": "Outbox",
        "protocols": "Ledger Listeners Rows Store",
        "ranges": "Interval Range",
        "records": "Audited Change Draft File Line Listener Model ModelVersion Resolved Stage",
        "references": "Reference parse_reference",
        "registry": "ModelRegistry",
        "versions": "Version",
        "webhooks": "Webhook",
    },
)
