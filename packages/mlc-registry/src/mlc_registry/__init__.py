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
        ConstructionError,
        CorruptArtifactError,
        DeliveryError,
        DependencyError,
        InvalidAddressError,
        InvalidMetadataError,
        InvalidNameError,
        InvalidRangeError,
        InvalidReferenceError,
        InvalidTagError,
        InvalidVersionError,
        ListenerBusyError,
        ListenerExistsError,
        ListenerNotFoundError,
        LockError,
        LooseVersionWarning,
        MigrationError,
        ModelNotFoundError,
        PolicyConflictError,
        PolicyError,
        PromotionRefusedError,
        RegistryError,
        RegistryNotFoundError,
        RegistryWarning,
        RemovedVersionError,
        SchemaError,
        SignatureError,
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
    from mlc_registry.protocols import Ledger, Listeners, Rows, Searches, Statements, Store
    from mlc_registry.ranges import Interval, Range
    from mlc_registry.records import (
        Approval,
        Architecture,
        Audited,
        Change,
        Draft,
        File,
        Line,
        Listener,
        Model,
        ModelVersion,
        Note,
        Origin,
        Page,
        Query,
        Resolved,
        Signature,
        Stage,
        Tracking,
    )
    from mlc_registry.references import Reference, parse_reference
    from mlc_registry.registry import ModelRegistry
    from mlc_registry.versions import Version
    from mlc_registry.webhooks import Webhook

__all__ = [
    "Approval",
    "Architecture",
    "Archive",
    "ArchiveError",
    "Audit",
    "AuditError",
    "Audited",
    "Change",
    "ConstructionError",
    "CorruptArtifactError",
    "DeliveryError",
    "DependencyError",
    "Draft",
    "File",
    "Interval",
    "InvalidAddressError",
    "InvalidMetadataError",
    "InvalidNameError",
    "InvalidRangeError",
    "InvalidReferenceError",
    "InvalidTagError",
    "InvalidVersionError",
    "Ledger",
    "Line",
    "Listener",
    "ListenerBusyError",
    "ListenerExistsError",
    "ListenerNotFoundError",
    "Listeners",
    "LockError",
    "LooseVersionWarning",
    "MigrationError",
    "Model",
    "ModelNotFoundError",
    "ModelRegistry",
    "ModelVersion",
    "Note",
    "Origin",
    "Outbox",
    "Page",
    "PolicyConflictError",
    "PolicyError",
    "PromotionRefusedError",
    "Query",
    "Range",
    "Reference",
    "RegistryError",
    "RegistryNotFoundError",
    "RegistryWarning",
    "RemovedVersionError",
    "Resolved",
    "Rows",
    "SchemaError",
    "Searches",
    "Signature",
    "SignatureError",
    "SourceError",
    "Stage",
    "StageConflictError",
    "StageNotFoundError",
    "Statements",
    "Store",
    "StoreError",
    "Tracking",
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
            "ArchiveError AuditError ConstructionError CorruptArtifactError DeliveryError "
            "DependencyError InvalidAddressError InvalidMetadataError InvalidNameError "
            "InvalidRangeError InvalidReferenceError InvalidTagError InvalidVersionError "
            "ListenerBusyError ListenerExistsError ListenerNotFoundError LockError "
            "LooseVersionWarning MigrationError ModelNotFoundError PolicyConflictError PolicyError "
            "PromotionRefusedError RegistryError RegistryNotFoundError RegistryWarning "
            "RemovedVersionError SchemaError SignatureError SourceError StageConflictError "
            "StageNotFoundError StoreError UnchangedVersionWarning VersionExistsError "
            "VersionNotFoundError YankedVersionError YankedVersionWarning"
        ),
        "outbox": "Outbox",
        "protocols": "Ledger Listeners Rows Searches Statements Store",
        "ranges": "Interval Range",
        "records": (
            "Approval Architecture Audited Change Draft File Line Listener Model "
            "ModelVersion Note Origin Page Query Resolved Signature Stage Tracking"
        ),
        "references": "Reference parse_reference",
        "registry": "ModelRegistry",
        "versions": "Version",
        "webhooks": "Webhook",
    },
)
