"""Our own losses keep the contract of third-party authors, and the contract finds what it is for."""

import pytest
import torch
from torch import nn

from mlc_losses import DiceLoss, LossManager, get_preset_loss_config
from mlc_losses.presets import PRESETS
from mlc_losses.testing import LossContract

create = LossManager.create_loss_function


class TestBinaryLosses(LossContract):
    @pytest.fixture(
        params=[
            {"type": "dice"},
            {"type": "dice", "squared_pred": True, "batch": True},
            {"type": "dice", "smooth": 1, "empty": "formula"},
            {"type": "jaccard"},
            {"type": "bce"},
            {"type": "bce", "label_smoothing": 0.1},
            {"type": "focal"},
            {"type": "focal", "gamma": 0.5},
            *(get_preset_loss_config(name) for name in PRESETS),
        ],
        ids=str,
    )
    def loss(self, request):
        """Return each loss for one channel."""
        return create(request.param)


class TestMultilabelLosses(LossContract):
    channels = 3

    @pytest.fixture(
        params=[
            {"type": "dice", "mode": "multilabel"},
            {"type": "jaccard", "mode": "multilabel", "batch": True, "smooth": 0},
            {"type": "focal", "mode": "multilabel"},
            {**get_preset_loss_config("default_segmentation"), "mode": "multilabel"},
        ],
        ids=str,
    )
    def loss(self, request):
        """Return losses for three channels."""
        return create(request.param)


class Bad(nn.Module):
    """A squared error that can be spoilt."""

    def forward(self, pred, target, *, mask=None):
        """Return the mean over what counts."""
        target = target.to(pred.dtype)
        mask = torch.ones_like(pred, dtype=torch.bool) if mask is None else mask.expand_as(pred)
        error = torch.where(mask, torch.sigmoid(torch.where(mask, pred, 0)) - torch.where(mask, target, 0), 0)
        return self.finish(error.float().square(), mask)

    def finish(self, error, mask):
        """Return the mean."""
        return error.sum() / mask.sum().clamp_min(1)

    def explain(self):
        """Return a name."""
        return "squared error"


class Multiplied(Bad):
    """Masks by multiplication."""

    def forward(self, pred, target, *, mask=None):
        """Return NaN where NaN is ignored."""
        mask = torch.ones_like(pred) if mask is None else mask.to(pred.dtype)
        return ((torch.sigmoid(pred) - target) * mask).square().sum() / mask.sum()


class DividedByAll(Bad):
    """Means over what is ignored too."""

    def finish(self, error, mask):
        """Return too little."""
        return error.mean()


class Wide(Bad):
    """Forgets to reduce."""

    def finish(self, error, mask):
        """Return every voxel."""
        return error


class Upside(Bad):
    """Rewards mistakes."""

    def finish(self, error, mask):
        """Return the opposite."""
        return 1 - super().finish(error, mask)


class Detached(Bad):
    """Teaches nothing."""

    def finish(self, error, mask):
        """Return a number without a graph."""
        return super().finish(error.detach(), mask)


class Greedy(Bad):
    """Writes into what it is given."""

    def forward(self, pred, target, *, mask=None):
        """Return the loss of something else."""
        pred.data.clamp_(-1, 1)
        return super().forward(pred, target, mask=mask)


class Half(Bad):
    """Adds up in half precision."""

    def finish(self, error, mask):
        """Return what overflows."""
        return super().finish(error.half(), mask)


class Mute(Bad):
    """Explains nothing."""

    def explain(self):
        """Return nothing."""
        return ""


@pytest.mark.parametrize(
    ("loss", "check"),
    [
        (Multiplied(), lambda c, one: c.test_ignored_voxels_may_hold_anything(one, float("nan"))),
        (Multiplied(), lambda c, one: c.test_nothing_left_is_zero_with_a_graph(one)),
        (DividedByAll(), lambda c, one: c.test_ignoring_is_cropping(one)),
        (Wide(), lambda c, one: c.test_gives_one_finite_number(one)),
        (Upside(), lambda c, one: c.test_better_costs_less(one)),
        (Detached(), lambda c, one: c.test_gradient_reaches_the_prediction(one)),
        (Greedy(), lambda c, one: c.test_inputs_stay_as_they_are(one)),
        (Half(), lambda c, one: c.test_half_precision_does_not_overflow(one, torch.float16)),
        (Half(), lambda c, one: c.test_gradient_is_the_derivative(one)),
        (Mute(), lambda c, one: c.test_explains_itself(one)),
    ],
)
def test_contract_finds_spoilt_losses(loss, check):
    """Each mistake fails the test that is for it."""
    with pytest.raises((AssertionError, RuntimeError)):
        check(LossContract(), loss)


def test_contract_wants_a_loss():
    """A subclass that forgets its fixture is told so."""
    with pytest.raises(NotImplementedError, match="give the fixture loss"):
        LossContract.loss.__wrapped__(LossContract())


def test_contract_can_be_told_what_does_not_hold():
    """A loss may compare places, or have a gradient of its own making."""

    class Loose(LossContract):
        """Compares places."""

        voxels_are_exchangeable = False
        is_differentiable = False

    Loose().test_order_of_voxels_does_not_matter(Wide())
    Loose().test_ignoring_is_cropping(DividedByAll())
    Loose().test_gradient_is_the_derivative(Wide())


def test_losses_say_what_they_leave_to_others():
    """The base of our losses computes and explains nothing itself."""
    base = super(DiceLoss, DiceLoss())

    with pytest.raises(NotImplementedError):
        base.compute(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    with pytest.raises(NotImplementedError):
        base.explain()
