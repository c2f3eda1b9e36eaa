"""What to keep when a run has saved more than it needs."""

from mlc_core.retention.budget import KeepWithinBudget
from mlc_core.retention.combined import AllOf, AnyOf
from mlc_core.retention.pareto import KeepPareto
from mlc_core.retention.plan import decide
from mlc_core.retention.recent import KeepRecent
from mlc_core.retention.regular import KeepEvery
from mlc_core.retention.simple import KeepAll, KeepBest, KeepBestAndLatest, KeepLatest, KeepUnrepeated
from mlc_core.retention.spaced import KeepSpaced
from mlc_core.retention.within import KeepWithin

__all__ = [
    "AllOf",
    "AnyOf",
    "KeepAll",
    "KeepBest",
    "KeepBestAndLatest",
    "KeepEvery",
    "KeepLatest",
    "KeepPareto",
    "KeepRecent",
    "KeepSpaced",
    "KeepUnrepeated",
    "KeepWithin",
    "KeepWithinBudget",
    "decide",
]
