"""When to save."""

from mlc_core.strategies.adaptive import Adaptive
from mlc_core.strategies.combined import AllOf, AnyOf
from mlc_core.strategies.exceptions import OnException
from mlc_core.strategies.functions import FromFunction
from mlc_core.strategies.measured import OverheadBudget, YoungDaly
from mlc_core.strategies.milestones import Milestones
from mlc_core.strategies.monitored import All, Best
from mlc_core.strategies.performance import PerformanceBased
from mlc_core.strategies.regular import Epoch, Interval
from mlc_core.strategies.signals import OnSignal
from mlc_core.strategies.timed import TimeBased
from mlc_core.strategies.wall_clock import WallClock

__all__ = [
    "Adaptive",
    "All",
    "AllOf",
    "AnyOf",
    "Best",
    "Epoch",
    "FromFunction",
    "Interval",
    "Milestones",
    "OnException",
    "OnSignal",
    "OverheadBudget",
    "PerformanceBased",
    "TimeBased",
    "WallClock",
    "YoungDaly",
]
