"""Everything that checkpoints raise.

::

    MlcError
    ├── CheckpointError
    │   ├── CheckpointNotFoundError  FileNotFoundError  there is no such checkpoint; says what there is
    │   ├── CorruptCheckpointError   ValueError         a file is torn, changed, missing or hostile; names the file
    │   ├── StateError               TypeError          something in the state cannot be saved without losing it
    │   └── MismatchError            ValueError         the checkpoint does not fit what it is loaded into
    ├── StorageError                 OSError            the storage failed; what was committed before is untouched
    │   ├── DiskFullError                               there is no room; says how much is needed
    │   └── EntryExistsError         FileExistsError    a checkpoint of that name is there already
    └── ConfigurationError           ValueError         options that contradict each other or the facts
"""

from __future__ import annotations

from mlc_hooks import MlcError

__all__ = [
    "CheckpointError",
    "CheckpointNotFoundError",
    "CheckpointWarning",
    "ConfigurationError",
    "CorruptCheckpointError",
    "DiskFullError",
    "EntryExistsError",
    "MismatchError",
    "StateError",
    "StorageError",
]


class CheckpointError(MlcError):
    """Something about a checkpoint."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """There is no such checkpoint."""


class CorruptCheckpointError(CheckpointError, ValueError):
    """A checkpoint is not what was committed: torn, changed, missing a file, or made to harm."""


class StateError(CheckpointError, TypeError):
    """Something in the state cannot be saved without losing it."""


class MismatchError(CheckpointError, ValueError):
    """The checkpoint does not fit the object it is loaded into; nothing was changed."""


class StorageError(MlcError, OSError):
    """The storage failed; what was committed before is untouched."""


class DiskFullError(StorageError):
    """There is no room for the checkpoint; what was committed before is untouched."""


class EntryExistsError(StorageError, FileExistsError):
    """A checkpoint of that name was committed already."""


class ConfigurationError(MlcError, ValueError):
    """Options that contradict each other or the facts."""


class CheckpointWarning(UserWarning):
    """Something was wrong and another way was taken: a corrupt checkpoint was passed over, a state was not used."""
