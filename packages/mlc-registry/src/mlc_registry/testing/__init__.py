"""What authors of stores test with: the contract, and strategies for versions and ranges. Needs `[testing]`."""

from mlc_registry.testing.stores import StoreContract
from mlc_registry.testing.strategies import ranges, versions

__all__ = ["StoreContract", "ranges", "versions"]
