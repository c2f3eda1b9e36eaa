"""Importing the package costs next to nothing."""

import subprocess
import sys

import pytest

import mlc_losses

LIGHT = """
import sys
import mlc_losses, mlc_losses.hooks, mlc_losses.hookspecs, mlc_losses.protocols, mlc_losses.records
from mlc_losses import Loss, LossConfigError, LossManager, get_preset_loss_config, losses
get_preset_loss_config("dice_focused")
losses().find("dice")
assert "torch" not in sys.modules, "torch"
"""


def test_torch_waits_until_a_loss_is_made():
    """Names, presets, errors and the catalog come without torch."""
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


def test_everything_public_is_there():
    """`__all__` is sorted, complete and importable, and nothing else is offered."""
    assert sorted(mlc_losses.__all__) == mlc_losses.__all__
    assert [getattr(mlc_losses, name).__name__ for name in mlc_losses.__all__] == mlc_losses.__all__
    assert set(mlc_losses.__all__) <= set(dir(mlc_losses))


def test_unknown_attributes_are_attribute_errors():
    """A typing error is told as Python tells it."""
    with pytest.raises(AttributeError, match="module 'mlc_losses' has no attribute 'DiseLoss'"):
        mlc_losses.DiseLoss  # noqa: B018 -- the access is the test
