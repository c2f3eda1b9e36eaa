"""Our own losses keep the contract of third-party authors, and the contract finds what it is for."""

import pytest
import torch
from torch import nn

from mlc_losses import LossManager, get_preset_loss_config
from mlc_losses.base import SegmentationLoss, SummedLoss
from mlc_losses.catalogs import losses
from mlc_losses.inputs import Inputs
from mlc_losses.presets import PRESETS
from mlc_losses.region import RegionLoss
from mlc_losses.testing import LossContract

create = LossManager.create_loss_function

ALONE = [
    {"type": "bce"},
    {"type": "bce", "label_smoothing": 0.1},
    {"type": "bce", "alpha": "balanced"},
    {"type": "focal"},
    {"type": "focal", "gamma": 0.5, "alpha": None},
]
CLASSES = [
    {"type": "cross_entropy"},
    {"type": "cross_entropy", "label_smoothing": 0.1, "class_weights": [1.0, 0.5, 2.0]},
    {"type": "focal_cross_entropy"},
    {"type": "focal_cross_entropy", "gamma": 0.5, "ignore_index": 255},
]
REGIONS = [
    {"type": "dice"},
    {"type": "dice", "squared_pred": True, "batch": True},
    {"type": "dice", "empty": "skip", "label_smoothing": 0.1},
    {"type": "dice", "smooth": 0, "ignore_index": 255},
    {"type": "focal_tversky"},
    {"type": "focal_tversky", "gamma": 2, "batch": True, "empty": "skip"},
    {"type": "generalized_dice"},
    {"type": "generalized_dice", "batch": True, "squared_pred": True},
    {"type": "jaccard"},
    {"type": "jaccard", "batch": True, "empty": "formula"},
    {"type": "log_dice"},
    {"type": "lovasz"},
    {"type": "lovasz", "batch": True, "empty": "skip"},
    {"type": "lovasz", "empty": "formula"},
    {"type": "tversky"},
    {"type": "tversky", "alpha": 0.7, "beta": 0.7, "squared_pred": True},
]
SMOOTH = [
    {"type": "dice", "smooth": 1, "empty": "formula"},
    {"type": "jaccard", "smooth_nr": 0, "smooth_dr": 1},
    {"type": "log_dice", "smooth": 1},
    {"type": "tversky", "smooth": 1},
    {"type": "generalized_dice", "smooth": 1},
]
SEVERAL = [
    {"dice_weight": 0.5, "focal_weight": 0.5, "lovasz_weight": 1, "tversky_weight": 0.1, "focal_config": {"gamma": 2}},
    {"bce_weight": 0.5, "jaccard_weight": 1, "more_weight": 1, "more_config": {"type": "dice", "batch": True}},
]


def combine(mode):
    """Return configurations of combinations."""
    presets = [get_preset_loss_config(name, mode=mode) for name in PRESETS]
    if mode == "multiclass":
        return [*presets, {"type": "combined", "mode": mode, "cross_entropy_weight": 1.0, "lovasz_weight": 0.5}]
    return [*presets, *({"type": "combined", "mode": mode, **one} for one in SEVERAL)]


def over(mode, *configs):
    """Return a fixture that gives each loss for *mode*."""

    @pytest.fixture(params=configs, ids=lambda one: " ".join(f"{k}={v}" for k, v in one.items()))
    def loss(self, request):
        """Return each loss."""
        return create({"mode": mode, **request.param})

    return loss


class TestBinaryLosses(LossContract):
    loss = over("binary", *ALONE, *REGIONS, *combine("binary"))


class TestMultilabelLosses(LossContract):
    channels = 3
    loss = over("multilabel", *ALONE, *REGIONS, *combine("multilabel"))


class TestMulticlassLosses(LossContract):
    channels, labels = 3, True
    loss = over("multiclass", *CLASSES, *REGIONS, *combine("multiclass"))


class TestSmoothedLosses(LossContract):
    channels = 2
    scale_of_weights_matters = True
    loss = over("multilabel", *SMOOTH)


class TestSmoothedMulticlassLosses(LossContract):
    channels, labels = 2, True
    scale_of_weights_matters = True
    loss = over("multiclass", *SMOOTH)


def test_every_loss_of_ours_keeps_the_contract():
    """No name in the catalog is left out."""
    tested = {one["type"] for one in (*ALONE, *CLASSES, *REGIONS)} | {"combined"}

    assert {offer.name for offer in losses().offers() if offer.plugin == "mlc-losses"} == tested


class Bad(nn.Module):
    """A squared error that can be spoilt."""

    def forward(self, pred, target, *, mask=None, weight=None):
        """Return the mean over what counts."""
        weights = torch.ones_like(pred) if weight is None else weight.expand_as(pred)
        weights = weights if mask is None else torch.where(mask, weights, 0)
        p, target = self.read(torch.where(weights > 0, pred, 0), target)
        error = torch.where(weights > 0, p - torch.where(weights > 0, target, 0), 0)
        return self.finish(error.to(torch.promote_types(pred.dtype, torch.float32)).square(), weights)

    def read(self, pred, target):
        """Return probabilities and what they should be."""
        return torch.sigmoid(pred), target.to(pred.dtype)

    def finish(self, error, weights):
        """Return the mean."""
        total = weights.sum(dtype=error.dtype)
        return (error * weights).sum() / torch.where(total > 0, total, 1)

    def explain(self):
        """Return a name."""
        return "squared error"


class Classes(Bad):
    """The same over classes."""

    def read(self, pred, target):
        """Return probabilities and what they should be."""
        classes = torch.arange(pred.shape[1]).view(1, -1, *[1] * (target.dim() - 1))
        return torch.softmax(pred, 1), (target.unsqueeze(1) == classes).to(pred.dtype)


class Multiplied(Bad):
    """Masks by multiplication."""

    def forward(self, pred, target, *, mask=None, weight=None):
        """Return NaN where NaN is ignored."""
        mask = torch.ones_like(pred) if mask is None else mask.to(pred.dtype)
        return ((torch.sigmoid(pred) - target) * mask).square().sum() / mask.sum()


class DividedByAll(Bad):
    """Means over what is ignored too."""

    def finish(self, error, weights):
        """Return too little."""
        return error.mean()


class Wide(Bad):
    """Forgets to reduce."""

    def finish(self, error, weights):
        """Return every voxel."""
        return error


class Upside(Bad):
    """Rewards mistakes."""

    def finish(self, error, weights):
        """Return the opposite."""
        return 1 - super().finish(error, weights)


class Detached(Bad):
    """Teaches nothing."""

    def finish(self, error, weights):
        """Return a number without a graph."""
        return super().finish(error.detach(), weights)


class Greedy(Bad):
    """Writes into what it is given."""

    def forward(self, pred, target, *, mask=None, weight=None):
        """Return the loss of something else."""
        pred.data.clamp_(-1, 1)
        return super().forward(pred, target, mask=mask, weight=weight)


class Half(Bad):
    """Adds up in half precision."""

    def finish(self, error, weights):
        """Return what overflows."""
        return super().finish(error.half(), weights.half())


class Mute(Bad):
    """Explains nothing."""

    def explain(self):
        """Return nothing."""
        return ""


class Deaf(Bad):
    """Counts every voxel alike."""

    def forward(self, pred, target, *, mask=None, weight=None):
        """Return what it would be without weights."""
        return super().forward(pred, target, mask=mask)


class Scaled(Bad):
    """Multiplies by weights, and forgets to divide by them."""

    def finish(self, error, weights):
        """Return the mean over voxels."""
        count = (weights > 0).sum()
        return (error * weights).sum() / torch.where(count > 0, count, 1)


class Stained(Bad):
    """Multiplies by weights of 0."""

    def forward(self, pred, target, *, mask=None, weight=None):
        """Return NaN where NaN weighs nothing."""
        weight = torch.ones_like(pred) if weight is None else weight
        return ((torch.sigmoid(pred) - target).square() * weight).sum() / weight.sum()


class Nearly(Bad):
    """Adds a millionth to weights, so that none divides by 0."""

    def forward(self, pred, target, *, mask=None, weight=None):
        """Return something close."""
        weight = None if weight is None else weight + 1e-6 * torch.arange(weight.shape[-1])
        return super().forward(pred, target, mask=mask, weight=weight)


class Unit(Bad):
    """Takes weights for a share of all voxels."""

    def finish(self, error, weights):
        """Return the sum over what there is."""
        return (error * weights).sum() / weights.numel() * weights.mean()


class Packed(Bad):
    """Wants its channels first in memory."""

    def forward(self, pred, target, *, mask=None, weight=None):
        """Return the loss of voxels in the order that memory has them."""
        packed = torch.as_strided(pred, pred.shape, torch.empty(pred.shape).stride(), pred.storage_offset())
        return super().forward(packed, target, mask=mask, weight=weight)


class Shifted(Classes):
    """Counts classes from 1."""

    def read(self, pred, target):
        """Return the probabilities of the wrong classes."""
        return super().read(pred, target - 1)


class Alone(Classes):
    """Takes what a voxel may hold where it does not count for an index."""

    def read(self, pred, target):
        """Return probabilities and what they should be."""
        hot = nn.functional.one_hot(target.long(), pred.shape[1]).movedim(-1, 1)
        return torch.softmax(pred, 1), hot.to(pred.dtype)


class Narrow(Classes):
    """Knows class numbers of one dtype."""

    def read(self, pred, target):
        """Return probabilities and what they should be."""
        return super().read(pred, target.view(torch.int64))


NAN = float("nan")


@pytest.mark.parametrize(
    ("loss", "check"),
    [
        (Multiplied(), lambda c, one: c.test_ignored_voxels_may_hold_anything(one, NAN)),
        (Multiplied(), lambda c, one: c.test_nothing_left_is_zero_with_a_graph(one)),
        (DividedByAll(), lambda c, one: c.test_ignoring_is_cropping(one)),
        (Wide(), lambda c, one: c.test_gives_one_finite_number(one)),
        (Upside(), lambda c, one: c.test_better_costs_less(one)),
        (Detached(), lambda c, one: c.test_gradient_reaches_the_prediction(one)),
        (Greedy(), lambda c, one: c.test_inputs_stay_as_they_are(one)),
        (Half(), lambda c, one: c.test_half_precision_does_not_overflow(one, torch.float16)),
        (Half(), lambda c, one: c.test_gradient_is_the_derivative(one)),
        (Mute(), lambda c, one: c.test_explains_itself(one)),
        (Deaf(), lambda c, one: c.test_weight_is_a_number_of_voxels(one)),
        (Deaf(), lambda c, one: c.test_weight_of_zero_is_a_mask(one, 255.0)),
        (Deaf(), lambda c, one: c.test_nothing_of_weight_is_zero_with_a_graph(one)),
        (Scaled(), lambda c, one: c.test_scale_of_weights_does_not_matter(one)),
        (Scaled(), lambda c, one: c.test_weight_is_a_number_of_voxels(one)),
        (Stained(), lambda c, one: c.test_weight_of_zero_is_a_mask(one, NAN)),
        (Stained(), lambda c, one: c.test_nothing_of_weight_is_zero_with_a_graph(one)),
        (Nearly(), lambda c, one: c.test_weight_of_one_is_no_weight(one)),
        (Unit(), lambda c, one: c.test_scale_of_weights_does_not_matter(one)),
        (Packed(), lambda c, one: c.test_layout_does_not_matter(one)),
    ],
)
def test_contract_finds_spoilt_losses(loss, check):
    """Each mistake fails the test that is for it."""
    with pytest.raises((AssertionError, RuntimeError)):
        check(LossContract(), loss)


class Three(LossContract):
    channels, labels = 3, True


@pytest.mark.parametrize(
    ("loss", "check"),
    [
        (Shifted(), lambda c, one: c.test_better_costs_less(one)),
        (Alone(), lambda c, one: c.test_ignored_voxels_may_hold_anything(one, 255.0)),
        (Narrow(), lambda c, one: c.test_targets_of_every_dtype_are_the_same_target(one)),
    ],
)
def test_contract_finds_spoilt_losses_over_classes(loss, check):
    """And so do those that only a loss over classes can make."""
    with pytest.raises((AssertionError, RuntimeError)):
        check(Three(), loss)


class TestSoundErrorOverMasks(LossContract):
    """What spoilt losses are made of is itself sound: each fails for its own mistake."""

    channels = 2

    @pytest.fixture
    def loss(self):
        """Return the squared error."""
        return Bad()


class TestSoundErrorOverClasses(LossContract):
    """Over classes too."""

    channels, labels = 3, True

    @pytest.fixture
    def loss(self):
        """Return the squared error."""
        return Classes()


def test_contract_wants_a_loss():
    """A subclass that forgets its fixture is told so."""
    with pytest.raises(NotImplementedError, match="give the fixture loss"):
        LossContract.loss.__wrapped__(LossContract())


def test_contract_can_be_told_what_does_not_hold():
    """A loss may compare places, have a gradient of its own making, no weights, or a number of voxels in it."""

    class Loose(LossContract):
        """Wants next to nothing."""

        voxels_are_exchangeable = False
        is_differentiable = False
        takes_weights = False
        scale_of_weights_matters = True

    loose = Loose()
    loose.test_order_of_voxels_does_not_matter(Wide())
    loose.test_ignoring_is_cropping(DividedByAll())
    loose.test_gradient_is_the_derivative(Wide())
    loose.test_weight_of_one_is_no_weight(Nearly())
    loose.test_weight_of_zero_is_a_mask(Stained(), NAN)
    loose.test_nothing_of_weight_is_zero_with_a_graph(Stained())
    loose.test_weight_is_a_number_of_voxels(Deaf())
    loose.test_scale_of_weights_does_not_matter(Scaled())


def test_losses_say_what_they_leave_to_others():
    """The bases of our losses compute and explain nothing themselves."""
    inputs = SegmentationLoss().read(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))

    assert isinstance(inputs, Inputs)
    with pytest.raises(NotImplementedError):
        SegmentationLoss().evaluate(inputs)
    with pytest.raises(NotImplementedError):
        SegmentationLoss().explain()
    with pytest.raises(NotImplementedError):
        SummedLoss().judge(torch.zeros(5, 1, 1), inputs)
    with pytest.raises(NotImplementedError):
        RegionLoss()(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    with pytest.raises(NotImplementedError):
        RegionLoss().explain()
