"""Checkpoints that are never torn, never silently corrupt and never lost."""

from typing import TYPE_CHECKING

from mlc_hooks.lazy import lazy_exports

if TYPE_CHECKING:
    from mlc_core.auto import AutoCheckpointManager
    from mlc_core.background import Saving
    from mlc_core.catalogs import open_storage, retention_policies, save_strategies, serializers, storages
    from mlc_core.errors import (
        CheckpointError,
        CheckpointNotFoundError,
        CheckpointWarning,
        ConfigurationError,
        CorruptCheckpointError,
        DiskFullError,
        EntryExistsError,
        MismatchError,
        StateError,
        StorageError,
    )
    from mlc_core.interchange import Foreign, export_pt, export_safetensors, import_checkpoint, import_file, import_pt
    from mlc_core.manager import CheckpointManager
    from mlc_core.naming import check_name
    from mlc_core.presets import create_checkpoint_manager, get_preset_checkpoint_config
    from mlc_core.protocols import (
        Capabilities,
        JoinableStaging,
        JoinableStorage,
        LinkingStaging,
        RetentionPolicy,
        SaveStrategy,
        Serializer,
        Staging,
        Storage,
        TensorBytes,
    )
    from mlc_core.reader import CheckpointReader, open_checkpoint
    from mlc_core.records import Decision, FileRecord, Moment, Monitor, Saved
    from mlc_core.restore import ModelFit, Restored, restore_part
    from mlc_core.state.random import RandomState

__all__ = [
    "AutoCheckpointManager",
    "Capabilities",
    "CheckpointError",
    "CheckpointManager",
    "CheckpointNotFoundError",
    "CheckpointReader",
    "CheckpointWarning",
    "ConfigurationError",
    "CorruptCheckpointError",
    "Decision",
    "DiskFullError",
    "EntryExistsError",
    "FileRecord",
    "Foreign",
    "JoinableStaging",
    "JoinableStorage",
    "LinkingStaging",
    "MismatchError",
    "ModelFit",
    "Moment",
    "Monitor",
    "RandomState",
    "Restored",
    "RetentionPolicy",
    "SaveStrategy",
    "Saved",
    "Saving",
    "Serializer",
    "Staging",
    "StateError",
    "Storage",
    "StorageError",
    "TensorBytes",
    "check_name",
    "create_checkpoint_manager",
    "export_pt",
    "export_safetensors",
    "get_preset_checkpoint_config",
    "import_checkpoint",
    "import_file",
    "import_pt",
    "open_checkpoint",
    "open_storage",
    "restore_part",
    "retention_policies",
    "save_strategies",
    "serializers",
    "storages",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "auto": "AutoCheckpointManager",
        "background": "Saving",
        "catalogs": "open_storage retention_policies save_strategies serializers storages",
        "errors": (
            "CheckpointError CheckpointNotFoundError CheckpointWarning ConfigurationError "
            "CorruptCheckpointError DiskFullError EntryExistsError MismatchError StateError "
            "StorageError"
        ),
        "interchange": "Foreign export_pt export_safetensors import_checkpoint import_file import_pt",
        "manager": "CheckpointManager",
        "naming": "check_name",
        "presets": "create_checkpoint_manager get_preset_checkpoint_config",
        "protocols": (
            "Capabilities JoinableStaging JoinableStorage LinkingStaging RetentionPolicy SaveStrategy "
            "Serializer Staging Storage TensorBytes"
        ),
        "reader": "CheckpointReader open_checkpoint",
        "records": "Decision FileRecord Moment Monitor Saved",
        "restore": "ModelFit Restored restore_part",
        "state.random": "RandomState",
    },
)
