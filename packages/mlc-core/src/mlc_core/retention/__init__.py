"""What to keep when a run has saved more than it needs."""

from mlc_core.retention.combined import AllOf, AnyOf
from mlc_core.retention.plan import decide
from mlc_core.retention.simple import KeepAll, KeepBest, KeepBestAndLatest, KeepLatest, KeepUnrepeated

__all__ = ["AllOf", "AnyOf", "KeepAll", "KeepBest", "KeepBestAndLatest", "KeepLatest", "KeepUnrepeated", "decide"]
