"""The losses hit numbers that were worked out by other means."""

from math import log

import pytest
import torch

from mlc_losses import BCELoss, DiceLoss, LossManager, get_preset_loss_config
from mlc_losses.cross_entropy import CrossEntropyLoss
from mlc_losses.lovasz import LovaszLoss
from mlc_losses.tversky import TverskyLoss

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
    (TverskyLoss(alpha=0.3, beta=0.7, smooth=0), 0.25588626096971545),
    (TverskyLoss(alpha=0.7, beta=0.3, smooth=0), 0.29649967557706347),
]
ROWS = torch.tensor([[1.0, 2, 3], [3, 1, -1], [0, 0, 0], [-1, 2, 0.5]], dtype=torch.float64).T.reshape(1, 3, 4)
CLASSES = torch.tensor([[2, 0, 1, 1]])
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


def test_reference_values_over_classes():
    """Cross entropy and the Dice of each class agree with their formulas in float64."""
    dice = DiceLoss(mode="multiclass", smooth=0, reduction="none")(ROWS, CLASSES)

    assert CrossEntropyLoss()(ROWS, CLASSES).item() == pytest.approx(0.47261529456738677, rel=1e-14)
    assert [0.25572736570415844, 0.35711562949243414, 0.3924021336708895] == pytest.approx(dice[0].tolist(), rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("loss", "expected"), VALUES)
def test_reference_values_of_small_dtypes(loss, expected, dtype):
    """The logits are the same in every dtype, so the values are too, to the rounding of a float32 sum."""
    assert expected == pytest.approx(loss(X.to(dtype), T.to(dtype)).item(), rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (DiceLoss(smooth=0, from_logits=False), 1 - 2 / 3),
        (DiceLoss(smooth=0, jaccard=True, from_logits=False), 1 - 1 / 2),
        (DiceLoss(smooth=1, from_logits=False), 1 - 7 / 10),
        (DiceLoss(smooth=1, jaccard=True, from_logits=False), 1 - 4 / 7),
        (DiceLoss(smooth=1, log=True, from_logits=False), -log(7 / 10)),
        (DiceLoss(smooth_nr=0, smooth_dr=1, from_logits=False), 1 - 6 / 10),
        (TverskyLoss(smooth=0, from_logits=False), 1 - 3 / 4.7),
        (TverskyLoss(smooth=1, from_logits=False), 1 - 4 / 5.7),
        (TverskyLoss(smooth=0, gamma=0.75, from_logits=False), (1 - 3 / 4.7) ** 0.75),
        (LovaszLoss(from_logits=False), 1 - 1 / 2),
    ],
    ids=range(10),
)
def test_conventions(loss, expected):
    """With 3 true and 1 false positives and 2 false negatives: smooth stands on 2·tp for Dice, and on tp elsewhere."""
    pred = torch.tensor([[[1.0, 1, 1, 1, 0, 0, 0]]], dtype=torch.float64)
    target = torch.tensor([[[1.0, 1, 1, 0, 1, 1, 0]]], dtype=torch.float64)

    assert expected == pytest.approx(loss(pred, target).item(), rel=1e-15)


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
