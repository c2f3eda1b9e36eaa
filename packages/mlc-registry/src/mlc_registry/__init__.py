"""A model registry that understands semantic versions and never loses a release."""

from typing import TYPE_CHECKING

from mlc_hooks.lazy import lazy_exports

if TYPE_CHECKING:
    from mlc_registry.artifacts.room import ArtifactRoom
    from mlc_registry.catalogs import promotion_checks, registry_stores
    from mlc_registry.dependencies.locks import Lock, Locked
    from mlc_registry.dependencies.room import Branch, Dependencies, Required, Resolution
    from mlc_registry.errors import (
        ApprovalNotFoundError,
        ArchiveError,
        AuditError,
        BumpWarning,
        ConstructionError,
        CorruptArtifactError,
        DeliveryError,
        DependencyError,
        EmptyDirectoryWarning,
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
        MissingMetricWarning,
        ModelNotFoundError,
        PartialWeightsWarning,
        PolicyConflictError,
        PolicyError,
        PromotionRefusedError,
        RegistryError,
        RegistryNotFoundError,
        RegistryWarning,
        RemovedVersionError,
        RepairedVersionWarning,
        RetentionError,
        SchemaError,
        SignatureError,
        SourceError,
        StageConflictError,
        StageNotFoundError,
        StoreError,
        UnchangedVersionWarning,
        UncheckedClassWarning,
        VersionExistsError,
        VersionNotFoundError,
        YankedVersionError,
        YankedVersionWarning,
    )
    from mlc_registry.history.archive import Archive
    from mlc_registry.history.audit import Audit
    from mlc_registry.history.outbox import Outbox
    from mlc_registry.history.webhooks import Webhook
    from mlc_registry.metrics import metrics_of
    from mlc_registry.migrations.room import Step
    from mlc_registry.migrations.scripts import Migrated, Migrations, migrate
    from mlc_registry.promotion.policy import CheckRule, Policy, StageRule
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
    from mlc_registry.registry import ModelRegistry
    from mlc_registry.releases.bumps import Reason, Suggestion
    from mlc_registry.releases.changelogs import Changelog, Release
    from mlc_registry.releases.comparisons import Comparison
    from mlc_registry.releases.provenance import git_commit, tracking_of
    from mlc_registry.releases.room import Releases
    from mlc_registry.releases.schemas import Schema, SchemaDiff, read_schema
    from mlc_registry.retention.reachability import Kept, Plan, RetentionRule
    from mlc_registry.retention.room import Pruned, Retention
    from mlc_registry.semver.ranges import Interval, Range
    from mlc_registry.semver.references import Reference, parse_reference
    from mlc_registry.semver.versions import Version
    from mlc_registry.signing import Signing, SigstoreIdentity

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
    "EmptyDirectoryWarning",
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
    "MissingMetricWarning",
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
    "RepairedVersionWarning",
    "Required",
    "Resolution",
    "Resolved",
    "Retention",
    "RetentionError",
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
    "UncheckedClassWarning",
    "Version",
    "VersionExistsError",
    "VersionNotFoundError",
    "Webhook",
    "YankedVersionError",
    "YankedVersionWarning",
    "git_commit",
    "metrics_of",
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
        "history.archive": "Archive",
        "artifacts.room": "ArtifactRoom",
        "history.audit": "Audit",
        "releases.bumps": "Reason Suggestion",
        "catalogs": "promotion_checks registry_stores",
        "metrics": "metrics_of",
        "releases.changelogs": "Changelog Release",
        "releases.comparisons": "Comparison",
        "dependencies.room": "Branch Dependencies Required Resolution",
        "errors": (
            "ApprovalNotFoundError ArchiveError AuditError BumpWarning ConstructionError CorruptArtifactError "
            "DeliveryError DependencyError EmptyDirectoryWarning InvalidAddressError InvalidMetadataError "
            "InvalidNameError InvalidNoteError InvalidQueryError InvalidRangeError InvalidReferenceError "
            "InvalidTagError InvalidVersionError ListenerBusyError ListenerExistsError ListenerNotFoundError "
            "LockError LooseVersionWarning MigrationError MissingMetricWarning ModelNotFoundError "
            "PartialWeightsWarning PolicyConflictError PolicyError PromotionRefusedError RegistryError "
            "RegistryNotFoundError RegistryWarning RemovedVersionError RepairedVersionWarning RetentionError "
            "SchemaError SignatureError SourceError StageConflictError StageNotFoundError StoreError "
            "UnchangedVersionWarning UncheckedClassWarning VersionExistsError VersionNotFoundError "
            "YankedVersionError YankedVersionWarning"
        ),
        "dependencies.locks": "Lock Locked",
        "migrations.scripts": "Migrated Migrations migrate",
        "migrations.room": "Step",
        "history.outbox": "Outbox",
        "promotion.policy": "CheckRule Policy StageRule",
        "protocols": "ArtifactStore Ledger Listeners PromotionCheck Rows Searches Statements Store",
        "releases.provenance": "git_commit tracking_of",
        "semver.ranges": "Interval Range",
        "retention.reachability": "Kept Plan RetentionRule",
        "records": (
            "Approval Architecture Audited Change Content Draft File Leftover Line Listener Model ModelVersion Note "
            "Objection Origin Page Promotion Query Resolved Signature Stage Tracking"
        ),
        "semver.references": "Reference parse_reference",
        "registry": "ModelRegistry",
        "releases.room": "Releases",
        "retention.room": "Pruned Retention",
        "releases.schemas": "Schema SchemaDiff read_schema",
        "signing": "Signing SigstoreIdentity",
        "semver.versions": "Version",
        "history.webhooks": "Webhook",
    },
)
