"""Losses come through the front door: ours and others'."""

import pytest
import torch
from torch import nn

from mlc_hooks import hookimpl
from mlc_hooks.testing import PluginContract
from mlc_losses import DiceLoss, LossConfigError, LossManager, losses


class TestManners(PluginContract):
    @pytest.fixture
    def plugin_name(self):
        """Return our name."""
        return "mlc-losses"


class Flat(nn.Module):
    """A loss of one height."""

    def __init__(self, height):
        super().__init__()
        self.height = height

    def forward(self, pred, target, *, mask=None):
        """Return the height."""
        return self.height + 0 * pred.sum()

    def explain(self):
        """Return the height."""
        return f"always {self.height}"


class Plugin:
    """A third party."""

    @hookimpl
    def mlc_losses(self):
        """Offer three losses."""
        return {"flat": self.flat, "dice": self.flat, "free": lambda **options: Flat(options["height"])}

    @staticmethod
    def flat(*, height: float = 1.0):
        """Return a loss of one height."""
        return Flat(height)


@pytest.fixture
def acme(mlc_plugins, monkeypatch):
    """Let the third party take part."""
    mlc_plugins.register(Plugin(), "acme")
    monkeypatch.setattr("mlc_losses.catalogs.shared", lambda: mlc_plugins)


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"type": "flat"}, 1.0),
        ({"type": "flat", "height": 3.0}, 3.0),
        ({"type": "acme:dice"}, 1.0),
        ({"type": "free", "height": 5.0}, 5.0),
        ({"type": "combined", "flat_weight": 0.5, "flat_config": {"height": 4.0}}, 2.0),
        ({"type": "combined", "acme:dice_weight": 0.5, "free_weight": 1, "free_config": {"height": 4.0}}, 4.5),
    ],
)
def test_configurations_take_losses_of_plugins(config, expected):
    """A plugin's loss is had by name, alone and in combinations."""
    loss = LossManager.create_loss_function(config)

    assert expected == loss(torch.zeros(1, 1, 2), torch.ones(1, 1, 2)).item()


@pytest.mark.usefixtures("acme")
def test_our_names_stay_ours():
    """A plugin cannot take the place of Dice."""
    assert isinstance(LossManager.create_loss_function({"type": "dice"}), DiceLoss)
    assert {"acme:dice", "dice", "flat"} <= set(losses().names())


@pytest.mark.usefixtures("acme")
def test_components_of_plugins_are_logged_under_their_names():
    """The parts of a combination are named after what the configuration calls them."""
    loss = LossManager.create_loss_function({"type": "combined", "flat_weight": 1, "dice_weight": 1})
    names = list(loss.get_loss_components(torch.zeros(1, 1, 2), torch.ones(1, 1, 2)))

    assert names[::4] == ["flat_loss", "dice_loss", "total"]


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("said", [{"reduction": "mean"}, {"distributed": False}, {"label_smoothing": 0.0}])
def test_what_a_plugin_does_anyway_may_be_said_for_all(said):
    """A component that does not take an option that all components share has its default, and nothing else."""
    LossManager.create_loss_function({"type": "combined", "flat_weight": 1, "dice_weight": 1, **said})
    other = {"reduction": "sum", "distributed": True, "label_smoothing": 0.1}

    with pytest.raises(LossConfigError, match="'flat' does not take"):
        LossManager.create_loss_function({"type": "combined", "flat_weight": 1, **{key: other[key] for key in said}})


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"type": "flat", "hight": 3.0}, "loss 'flat' does not take 'hight'. Did you mean 'height'. It takes: height"),
        ({"type": "combined", "flat_weight": 1, "from_logits": False}, "loss 'flat' does not take 'from_logits'"),
    ],
)
def test_what_a_plugins_loss_does_not_take_is_refused(config, says):
    """A fact about the prediction that a component cannot hear is an error, not a wrong loss."""
    with pytest.raises(LossConfigError, match=says):
        LossManager.create_loss_function(config)
