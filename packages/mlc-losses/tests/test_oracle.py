"""The losses agree with a second implementation in pure Python and with torch's own."""

from math import exp, fsum, log1p

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from mlc_losses import BCELoss, DiceLoss
from mlc_losses.testing.strategies import cases


def softplus(x):
    """Return log(1 + e^x)."""
    return max(x, 0) + log1p(exp(-abs(x)))


def sigmoid(x):
    """Return the probability of a logit."""
    return 1 / (1 + exp(-x))


def overlap_loss(xs, ts, *, smooth, jaccard, squared_pred, empty):
    """Return the loss of one region, or `None` where it is left out."""
    ps = [sigmoid(x) for x in xs]
    power = 2 if squared_pred else 1
    size_p, size_t = fsum(p**power for p in ps), fsum(t**power for t in ts)
    tp = fsum(p * t if squared_pred else min(p, t) for p, t in zip(ps, ts, strict=True))
    if not ps or (empty == "skip" and size_t == 0):
        return None
    if empty == "volume" and size_t == 0:
        return fsum(ps) / len(ps)
    if jaccard:
        return 1 - (tp + smooth) / (size_p + size_t - tp + smooth)
    return 1 - (2 * tp + smooth) / (size_p + size_t + smooth)


def focal_cost(x, t, *, gamma, alpha):
    """Return the loss of one voxel."""
    a, b = (1, 1) if alpha is None else (alpha, 1 - alpha)
    return a * t * sigmoid(-x) ** gamma * softplus(-x) + b * (1 - t) * sigmoid(x) ** gamma * softplus(x)


def valid(case, b, c):
    """Return the voxels of one channel of one sample that count."""
    return [
        (x, t)
        for x, t, m in zip(
            case.pred[b, c].flatten().tolist(),
            case.target[b, c].flatten().tolist(),
            case.mask[b, c].flatten().tolist(),
            strict=True,
        )
        if m
    ]


def mean(values):
    """Return the mean, or 0 of nothing."""
    return fsum(values) / len(values) if values else 0.0


OPTIONS = st.fixed_dictionaries(
    {
        "smooth": st.sampled_from([1e-6, 0.5, 1.0]),
        "jaccard": st.booleans(),
        "squared_pred": st.booleans(),
        "empty": st.sampled_from(["volume", "formula", "skip"]),
    }
)


@given(case=cases(), options=OPTIONS, batch=st.booleans())
def test_dice_family(case, options, batch):
    """Dice and Jaccard with every option, masked, are the mean of their regions' formula."""
    loss = DiceLoss(**options, batch=batch, mode="multilabel")
    samples, channels = case.pred.shape[:2]
    if batch:
        regions = [[pair for b in range(samples) for pair in valid(case, b, c)] for c in range(channels)]
    else:
        regions = [valid(case, b, c) for b in range(samples) for c in range(channels)]
    values = [overlap_loss([x for x, _ in one], [t for _, t in one], **options) for one in regions]
    expected = mean([value for value in values if value is not None])

    assert expected == pytest.approx(loss(case.pred, case.target, mask=case.mask).item(), rel=1e-12, abs=1e-14)


@given(case=cases(soft=True), options=OPTIONS)
def test_dice_family_with_soft_targets(case, options):
    """Fractions in the target go into the same formula."""
    loss = DiceLoss(**options, mode="multilabel")
    regions = [valid(case, b, c) for b in range(case.pred.shape[0]) for c in range(case.pred.shape[1])]
    values = [overlap_loss([x for x, _ in one], [t for _, t in one], **options) for one in regions]
    expected = mean([value for value in values if value is not None])

    assert expected == pytest.approx(loss(case.pred, case.target, mask=case.mask).item(), rel=1e-9, abs=1e-12)


@given(
    case=cases(soft=True),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]),
    alpha=st.sampled_from([None, 0.0, 0.25, 0.9]),
)
def test_bce_family(case, gamma, alpha):
    """BCE and focal, masked, are the mean of the voxels' formula."""
    loss = BCELoss(gamma=gamma, alpha=alpha, mode="multilabel")
    samples, channels = case.pred.shape[:2]
    voxels = [pair for b in range(samples) for c in range(channels) for pair in valid(case, b, c)]
    expected = mean([focal_cost(x, t, gamma=gamma, alpha=alpha) for x, t in voxels])

    assert expected == pytest.approx(loss(case.pred, case.target, mask=case.mask).item(), rel=1e-12, abs=1e-14)


@given(case=cases(soft=True))
def test_bce_is_that_of_torch(case):
    """With no options, BCE is `binary_cross_entropy_with_logits`."""
    expected = functional.binary_cross_entropy_with_logits(case.pred, case.target)

    torch.testing.assert_close(BCELoss(mode="multilabel")(case.pred, case.target), expected)


@given(case=cases(soft=True))
def test_bce_of_probabilities_is_that_of_torch(case):
    """Of probabilities, BCE is `binary_cross_entropy`."""
    p = torch.sigmoid(case.pred)

    torch.testing.assert_close(
        BCELoss(mode="multilabel", from_logits=False)(p, case.target), functional.binary_cross_entropy(p, case.target)
    )


@given(case=cases(dtype=torch.float32), options=OPTIONS)
def test_float32_is_as_good_as_its_inputs(case, options):
    """In float32 every loss is within 1e-6 of the float64 value."""
    for loss in (DiceLoss(**options, mode="multilabel"), BCELoss(gamma=2, alpha=0.25, mode="multilabel")):
        expected = loss(case.pred.double(), case.target.double(), mask=case.mask)

        assert expected.item() == pytest.approx(loss(case.pred, case.target, mask=case.mask).item(), abs=1e-6)
