"""A model registry that understands semantic versions and never loses a release."""

from typing import TYPE_CHECKING

from mlc_hooks.lazy import lazy_exports

if TYPE_CHECKING:
    from mlc_registry.archive import Archive
    from mlc_registry.artifact_room import ArtifactRoom
    from mlc_registry.audit import Audit
    from mlc_registry.bumps import Reason, Suggestion
    from mlc_registry.catalogs import promotion_checks, registry_stores
    from mlc_registry.changelogs import Changelog, Release
    from mlc_registry.comparisons import Comparison
    from mlc_registry.dependencies import Branch, Dependencies, Required, Resolution
    from mlc_registry.errors import (
        ApprovalNotFoundError,
        ArchiveError,
        AuditError,
        BumpWarning,
        ConstructionError,
        CorruptArtifactError,
        DeliveryError,
        DependencyError,
        InvalidAddressError,
        InvalidMetadataError,
        InvalidNameError,
        InvalidNoteError,
        InvalidQueryError,
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
        PartialWeightsWarning,
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
    from mlc_registry.locks import Lock, Locked
    from mlc_registry.migrating import Migrated, Migrations, migrate
    from mlc_registry.migrations import Step
    from mlc_registry.outbox import Outbox
    from mlc_registry.policy import CheckRule, Policy, StageRule
    from mlc_registry.protocols import (
        ArtifactStore,
        Ledger,
        Listeners,
        PromotionCheck,
        Rows,
        Searches,
        Statements,
        Store,
    )
    from mlc_registry.provenance import git_commit, tracking_of
    from mlc_registry.ranges import Interval, Range
    from mlc_registry.reachability import Kept, Plan, RetentionRule
    from mlc_registry.records import (
        Approval,
        Architecture,
        Audited,
        Change,
        Content,
        Draft,
        File,
        Leftover,
        Line,
        Listener,
        Model,
        ModelVersion,
        Note,
        Objection,
        Origin,
        Page,
        Promotion,
        Query,
        Resolved,
        Signature,
        Stage,
        Tracking,
    )
    from mlc_registry.references import Reference, parse_reference
    from mlc_registry.registry import ModelRegistry
    from mlc_registry.releases import Releases
    from mlc_registry.retention import Pruned, Retention
    from mlc_registry.schemas import Schema, SchemaDiff, read_schema
    from mlc_registry.signing import Signing, SigstoreIdentity
    from mlc_registry.versions import Version
    from mlc_registry.webhooks import Webhook

__all__ = [
    "Approval",
    "ApprovalNotFoundError",
    "Architecture",
    "Archive",
    "ArchiveError",
    "ArtifactRoom",
    "ArtifactStore",
    "Audit",
    "AuditError",
    "Audited",
    "Branch",
    "BumpWarning",
    "Change",
    "Changelog",
    "CheckRule",
    "Comparison",
    "ConstructionError",
    "Content",
    "CorruptArtifactError",
    "DeliveryError",
    "Dependencies",
    "DependencyError",
    "Draft",
    "File",
    "Interval",
    "InvalidAddressError",
    "InvalidMetadataError",
    "InvalidNameError",
    "InvalidNoteError",
    "InvalidQueryError",
    "InvalidRangeError",
    "InvalidReferenceError",
    "InvalidTagError",
    "InvalidVersionError",
    "Kept",
    "Ledger",
    "Leftover",
    "Line",
    "Listener",
    "ListenerBusyError",
    "ListenerExistsError",
    "ListenerNotFoundError",
    "Listeners",
    "Lock",
    "LockError",
    "Locked",
    "LooseVersionWarning",
    "Migrated",
    "MigrationError",
    "Migrations",
    "Model",
    "ModelNotFoundError",
    "ModelRegistry",
    "ModelVersion",
    "Note",
    "Objection",
    "Origin",
    "Outbox",
    "Page",
    "PartialWeightsWarning",
    "Plan",
    "Policy",
    "PolicyConflictError",
    "PolicyError",
    "Promotion",
    "PromotionCheck",
    "PromotionRefusedError",
    "Pruned",
    "Query",
    "Range",
    "Reason",
    "Reference",
    "RegistryError",
    "RegistryNotFoundError",
    "RegistryWarning",
    "Release",
    "Releases",
    "RemovedVersionError",
    "Required",
    "Resolution",
    "Resolved",
    "Retention",
    "RetentionRule",
    "Rows",
    "Schema",
    "SchemaDiff",
    "SchemaError",
    "Searches",
    "Signature",
    "SignatureError",
    "Signing",
    "SigstoreIdentity",
    "SourceError",
    "Stage",
    "StageConflictError",
    "StageNotFoundError",
    "StageRule",
    "Statements",
    "Step",
    "Store",
    "StoreError",
    "Suggestion",
    "Tracking",
    "UnchangedVersionWarning",
    "Version",
    "VersionExistsError",
    "VersionNotFoundError",
    "Webhook",
    "YankedVersionError",
    "YankedVersionWarning",
    "git_commit",
    "migrate",
    "parse_reference",
    "promotion_checks",
    "read_schema",
    "registry_stores",
    "tracking_of",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "archive": "Archive",
        "artifact_room": "ArtifactRoom",
        "audit": "Audit",
        "bumps": "Reason Suggestion",
        "catalogs": "promotion_checks registry_stores",
        "changelogs": "Changelog Release",
        "comparisons": "Comparison",
        "dependencies": "Branch Dependencies Required Resolution",
        "errors": (
            "ApprovalNotFoundError ArchiveError AuditError BumpWarning ConstructionError CorruptArtifactError "
            "DeliveryError DependencyError InvalidAddressError InvalidMetadataError InvalidNameError InvalidQueryError "
            "InvalidNoteError InvalidRangeError InvalidReferenceError InvalidTagError InvalidVersionError "
            "ListenerBusyError ListenerExistsError ListenerNotFoundError LockError LooseVersionWarning "
            "MigrationError ModelNotFoundError PartialWeightsWarning PolicyConflictError PolicyError "
            "PromotionRefusedError RegistryError RegistryNotFoundError RegistryWarning RemovedVersionError "
            "SchemaError SignatureError SourceError StageConflictError StageNotFoundError StoreError "
            "UnchangedVersionWarning VersionExistsError VersionNotFoundError YankedVersionError "
            "YankedVersionWarning"
        ),
        "locks": "Lock Locked",
        "migrating": "Migrated Migrations migrate",
        "migrations": "Step",
        "outbox": "Outbox",
        "policy": "CheckRule Policy StageRule",
        "protocols": "ArtifactStore Ledger Listeners PromotionCheck Rows Searches Statements Store",
        "provenance": "git_commit tracking_of",
        "ranges": "Interval Range",
        "reachability": "Kept Plan RetentionRule",
        "records": (
            "Approval Architecture Audited Change Content Draft File Leftover Line Listener Model ModelVersion Note "
            "Objection Origin Page Promotion Query Resolved Signature Stage Tracking"
        ),
        "references": "Reference parse_reference",
        "registry": "ModelRegistry",
        "releases": "Releases",
        "retention": "Pruned Retention",
        "schemas": "Schema SchemaDiff read_schema",
        "signing": "Signing SigstoreIdentity",
        "versions": "Version",
        "webhooks": "Webhook",
    },
)
