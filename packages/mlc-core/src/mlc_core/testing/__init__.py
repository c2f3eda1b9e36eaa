"""What a plugin's own test suite can inherit and draw from: `pip install mlc-core[testing]`.

Subclass a contract in a test module and give its one fixture; `mlc_core.testing.strategies` has the data to go on with.
"""

# ruff: noqa: E402
import pytest

for room in ("retention", "save_strategy", "serializer", "shared_files", "storage"):
    pytest.register_assert_rewrite(f"mlc_core.testing.{room}")  # or a contract that fails could not say why

from mlc_core.testing.retention import RetentionContract
from mlc_core.testing.save_strategy import SaveStrategyContract
from mlc_core.testing.serializer import SerializerContract
from mlc_core.testing.storage import StorageContract

__all__ = ["RetentionContract", "SaveStrategyContract", "SerializerContract", "StorageContract"]
