"""What can be done when a checkpoint is not what was committed: find it, mend it, set it aside, take it back."""

from mlc_core.recovery.examination import Damage, Examined, examine, read_saved
from mlc_core.recovery.leftovers import Leftover, find_leftovers
from mlc_core.recovery.plan import Plan, Repair, plan_repairs
from mlc_core.recovery.quarantine import Aside, find_quarantined, quarantine, restore

__all__ = [
    "Aside",
    "Damage",
    "Examined",
    "Leftover",
    "Plan",
    "Repair",
    "examine",
    "find_leftovers",
    "find_quarantined",
    "plan_repairs",
    "quarantine",
    "read_saved",
    "restore",
]
