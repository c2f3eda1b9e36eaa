"""What the test suite of a loss or a schedule can inherit and draw from: `pip install mlc-losses[testing]`."""

from mlc_losses.testing.contract import LossContract
from mlc_losses.testing.schedule import ScheduleContract

__all__ = ["LossContract", "ScheduleContract"]
