"""When to save."""

from mlc_core.strategies.combined import AnyOf
from mlc_core.strategies.monitored import All, Best
from mlc_core.strategies.regular import Epoch, Interval

__all__ = ["All", "AnyOf", "Best", "Epoch", "Interval"]
