"""What a loss's own test suite can inherit and draw from: `pip install mlc-losses[testing]`."""

from mlc_losses.testing.contract import LossContract

__all__ = ["LossContract"]
