"""What authors of stores and checks test with: the contracts, and strategies for values. Needs `[testing]`."""

from mlc_registry.testing.checks import PromotionCheckContract, make_promotion
from mlc_registry.testing.searches import SearchesContract
from mlc_registry.testing.statements import StatementsContract
from mlc_registry.testing.stores import StoreContract
from mlc_registry.testing.strategies import ranges, versions

__all__ = [
    "PromotionCheckContract",
    "SearchesContract",
    "StatementsContract",
    "StoreContract",
    "make_promotion",
    "ranges",
    "versions",
]
