"""The losses hit numbers that were worked out by other means."""

from math import log

import pytest
import torch

from mlc_losses import BCELoss, DiceLoss, LossManager, get_preset_loss_config

X = torch.tensor([-2.0, -1, 0, 1, 2, 3], dtype=torch.float64).view(1, 1, 6)
T = torch.tensor([0.0, 0, 1, 0, 1, 1], dtype=torch.float64).view(1, 1, 6)

# pure Python with math.fsum, in float64
VALUES = [
    (DiceLoss(smooth=0), 0.2767626813922762),
    (DiceLoss(smooth=1), 0.2396261596103345),
    (DiceLoss(smooth=0, squared_pred=True), 0.159779300068007),
    (DiceLoss(smooth=0, jaccard=True), 0.4335381749887516),
    (DiceLoss(smooth=0, jaccard=True, squared_pred=True), 0.2755339745391866),
    (BCELoss(), 0.4370189882093463),
    (BCELoss(gamma=2.0), 0.15025492750913608),
    (BCELoss(gamma=2.0, alpha=0.25), 0.09809122552354173),
]
PRESETS = {
    "default_segmentation": 0.32483954341312427,
    "focal_segmentation": 0.2052940733096913,
    "balanced_segmentation": 0.356890813354902,
    "dice_focused": 0.30881390844223544,
    "jaccard_based": 0.43458234528129586,
}


@pytest.mark.parametrize(("loss", "expected"), VALUES)
def test_reference_values(loss, expected):
    """Each loss agrees with its formula in float64."""
    assert expected == pytest.approx(loss(X, T).item(), rel=1e-14)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_values(name):
    """Each preset is the sum that its description promises, in float64."""
    loss = LossManager.create_loss_function(get_preset_loss_config(name))

    assert PRESETS[name] == pytest.approx(loss(X, T).item(), rel=1e-14)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (
            DiceLoss(smooth=0),
            [0.01176821493, 0.022037265223, -0.049467183805, 0.022037265223, -0.02077494795, -0.008939048522],
        ),
        (BCELoss(), [0.01986715367, 0.044823570228, -0.083333333333, 0.121843096438, -0.01986715367, -0.007904312196]),
    ],
)
def test_reference_gradients(loss, expected):
    """The gradients of Dice and BCE agree with their formulas in float64."""
    pred = X.clone().requires_grad_()
    loss(pred, T).backward()

    assert expected == pytest.approx(pred.grad.flatten().tolist(), abs=1e-11)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"smooth": 0}, 1 - 2 / 3),
        ({"smooth": 0, "jaccard": True}, 1 - 1 / 2),
        ({"smooth": 1}, 1 - 7 / 10),
        ({"smooth": 1, "jaccard": True}, 1 - 4 / 7),
    ],
)
def test_smooth_convention(options, expected):
    """With 3 true and 1 false positives and 2 false negatives, smooth stands on 2·tp for Dice and on tp for Jaccard."""
    pred = torch.tensor([[[1.0, 1, 1, 1, 0, 0, 0]]], dtype=torch.float64)
    target = torch.tensor([[[1.0, 1, 1, 0, 1, 1, 0]]], dtype=torch.float64)

    assert expected == pytest.approx(DiceLoss(**options, from_logits=False)(pred, target).item(), rel=1e-15)


@pytest.mark.parametrize(("p", "times"), [(0.9, 100), (0.968, 976.5625)])
def test_focal_discount_of_easy_voxels(p, times):
    """Gamma 2 makes a voxel at 0.9 count 100 times less, at 0.968 about a thousand times (Lin 2017)."""
    pred, target = torch.tensor([[[log(p / (1 - p))]]], dtype=torch.float64), torch.ones(1, 1, 1)

    assert times == pytest.approx((BCELoss()(pred, target) / BCELoss(gamma=2)(pred, target)).item())


def test_alpha_below_half_weighs_the_foreground_down():
    """At alpha 0.25 the same mistake costs three times more on background than on foreground."""
    loss, miss = BCELoss(gamma=2, alpha=0.25), torch.full((1, 1, 1), 3.0, dtype=torch.float64)

    assert 3 * loss(-miss, torch.ones(1, 1, 1)) == pytest.approx(loss(miss, torch.zeros(1, 1, 1)).item())


def test_v_net_gradient():
    """The gradient of squared Dice with respect to probabilities is the one of Milletari 2016."""
    g, p = T, torch.sigmoid(X).requires_grad_()
    DiceLoss(smooth=0, squared_pred=True, from_logits=False)(p, g).backward()
    sizes, overlap = (p.square() + g.square()).sum(), (p * g).sum()
    expected = -2 * (g * sizes - 2 * p * overlap) / sizes**2

    torch.testing.assert_close(p.grad, expected.detach())
