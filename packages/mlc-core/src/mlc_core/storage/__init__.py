"""Places where the checkpoints of one model can lie."""

from mlc_core.storage.local import LocalStorage
from mlc_core.storage.memory import MemoryStorage

__all__ = ["LocalStorage", "MemoryStorage"]
