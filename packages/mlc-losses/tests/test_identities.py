"""What must hold between losses, whatever the numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlc_losses import BCELoss, CombinedLoss, DiceLoss
from mlc_losses.testing.strategies import cases

MANY = {"mode": "multilabel"}


def make_losses(**options):
    """Return losses that between them use every option."""
    return (
        DiceLoss(**MANY, **options),
        DiceLoss(jaccard=True, squared_pred=True, empty="skip", **MANY, **options),
        DiceLoss(smooth=1, batch=True, empty="formula", **MANY, **options),
        BCELoss(label_smoothing=0.1, **MANY, **options),
        BCELoss(gamma=0.5, alpha=0.3, **MANY, **options),
    )


def combine():
    """Return a combination."""
    return CombinedLoss({"dice": DiceLoss(**MANY), "bce": BCELoss(gamma=2, **MANY)}, {"dice": 0.7, "bce": 0.3})


ALL = pytest.mark.parametrize("loss", [*make_losses(), combine()])


@given(case=cases(), squared_pred=st.booleans(), batch=st.booleans())
def test_jaccard_follows_from_dice(case, squared_pred, batch):
    """Region by region, Jaccard is 2·Dice / (1 + Dice) where smooth is 0."""
    options = {"smooth": 0, "squared_pred": squared_pred, "batch": batch, "reduction": "none", "empty": "skip", **MANY}
    dice = DiceLoss(**options)(case.pred, case.target)
    jaccard = DiceLoss(jaccard=True, **options)(case.pred, case.target)

    torch.testing.assert_close(jaccard, 2 * dice / (1 + dice))


@pytest.mark.parametrize("empty", ["volume", "formula", "skip"])
@given(case=cases(samples=1), jaccard=st.booleans(), squared_pred=st.booleans())
def test_batch_of_one_is_a_sample(case, empty, jaccard, squared_pred):
    """Regions over a batch of one are the regions of its sample."""
    options = {"jaccard": jaccard, "squared_pred": squared_pred, "empty": empty, **MANY}

    torch.testing.assert_close(
        DiceLoss(batch=True, **options)(case.pred, case.target, mask=case.mask),
        DiceLoss(batch=False, **options)(case.pred, case.target, mask=case.mask),
    )


@ALL
@given(case=cases(dtype=torch.float32))
def test_mask_of_all_voxels_is_no_mask(loss, case):
    """To leave nothing out changes no bit."""
    everything = torch.ones_like(case.mask)

    assert torch.equal(loss(case.pred, case.target), loss(case.pred, case.target, mask=everything))
    assert torch.equal(loss(case.pred, case.target), loss(case.pred, case.target, mask=everything[:, :1]))


@ALL
@given(case=cases(), cut=st.integers(0, 2))
def test_ignoring_is_cropping(loss, case, cut):
    """To ignore a slab is to cut it off."""
    cut = min(cut, case.pred.shape[2] - 1)
    mask = torch.ones_like(case.mask)
    mask[:, :, :cut] = False

    torch.testing.assert_close(
        loss(case.pred, case.target, mask=mask), loss(case.pred[:, :, cut:], case.target[:, :, cut:])
    )


@ALL
@given(case=cases(samples=2))
def test_ignoring_a_sample_is_leaving_it_out(loss, case):
    """A sample that is ignored as a whole does not count in the mean."""
    mask = torch.ones_like(case.mask)
    mask[1] = False

    torch.testing.assert_close(loss(case.pred, case.target, mask=mask), loss(case.pred[:1], case.target[:1]))


@ALL
@given(case=cases(), seed=st.integers(0, 99))
def test_order_does_not_matter(loss, case, seed):
    """Shuffling samples, channels or voxels changes nothing but rounding."""
    expected = loss(case.pred, case.target, mask=case.mask)

    for axis in range(case.pred.dim()):
        order = torch.randperm(case.pred.shape[axis], generator=torch.Generator().manual_seed(seed))
        shuffled = [one.index_select(axis, order) for one in (case.pred, case.target, case.mask)]
        torch.testing.assert_close(loss(shuffled[0], shuffled[1], mask=shuffled[2]), expected)


@given(case=cases(), empty=st.sampled_from(["volume", "formula"]))
def test_multilabel_is_the_mean_of_binary(case, empty):
    """Each channel is judged by itself."""
    for many, one in (
        (DiceLoss(empty=empty, **MANY), DiceLoss(empty=empty)),
        (BCELoss(gamma=2, **MANY), BCELoss(gamma=2)),
    ):
        channels = range(case.pred.shape[1])
        expected = torch.stack([one(case.pred[:, [c]], case.target[:, [c]]) for c in channels]).mean()

        torch.testing.assert_close(many(case.pred, case.target), expected)


@given(case=cases(), index=st.integers(0, 4))
def test_reductions_agree(case, index):
    """The sum is the sum of the elements; BCE's mean is that over their count."""
    total, each, mean = (make_losses(reduction=one)[index] for one in ("sum", "none", "mean"))
    elements = each(case.pred, case.target, mask=case.mask)
    count = case.mask.sum().clamp_min(1)

    torch.testing.assert_close(total(case.pred, case.target, mask=case.mask), elements.sum())
    if isinstance(mean, BCELoss):
        torch.testing.assert_close(mean(case.pred, case.target, mask=case.mask), elements.sum() / count)


def test_elements_have_the_documented_shapes():
    """Without reduction, Dice has a number per region and BCE one per voxel."""
    pred, target = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5)
    shapes = [tuple(loss(pred, target).shape) for loss in make_losses(reduction="none")]

    assert shapes == [(2, 3), (2, 3), (3,), (2, 3, 4, 5), (2, 3, 4, 5)]


@given(case=cases(soft=True))
def test_focal_without_gamma_is_bce(case):
    """Gamma 0 without alpha changes no bit."""
    assert torch.equal(
        BCELoss(gamma=0.0, alpha=None, **MANY)(case.pred, case.target), BCELoss(**MANY)(case.pred, case.target)
    )


@given(case=cases(soft=True))
def test_focal_approaches_bce(case):
    """A gamma next to 0 is next to BCE, so the two ways of computing are one formula."""
    torch.testing.assert_close(
        BCELoss(gamma=1e-12, **MANY)(case.pred, case.target), BCELoss(**MANY)(case.pred, case.target)
    )


@given(case=cases(), gamma=st.sampled_from([0.0, 0.5, 2.0]), share=st.floats(0, 1))
def test_focal_is_linear_in_the_target(case, gamma, share):
    """A voxel labelled 0.3 costs 0.3 of foreground and 0.7 of background."""
    loss = BCELoss(gamma=gamma, alpha=0.25, **MANY)
    ones, zeros = torch.ones_like(case.pred), torch.zeros_like(case.pred)
    expected = share * loss(case.pred, ones) + (1 - share) * loss(case.pred, zeros)

    torch.testing.assert_close(loss(case.pred, share * ones), expected)


@given(case=cases(soft=True), smoothing=st.floats(0, 1))
def test_label_smoothing_moves_the_target(case, smoothing):
    """Smoothing by e is a target of t·(1-e) + e/2."""
    softer = case.target * (1 - smoothing) + smoothing / 2

    torch.testing.assert_close(
        BCELoss(gamma=2, label_smoothing=smoothing, **MANY)(case.pred, case.target),
        BCELoss(gamma=2, **MANY)(case.pred, softer),
    )


@given(case=cases(soft=True), jaccard=st.booleans(), squared_pred=st.booleans(), smooth=st.sampled_from([0, 1e-6, 1]))
def test_the_soft_target_itself_costs_nothing(case, jaccard, squared_pred, smooth):
    """A prediction that equals a soft target has a loss of 0."""
    loss = DiceLoss(smooth=smooth, jaccard=jaccard, squared_pred=squared_pred, from_logits=False, **MANY)

    assert loss(case.target, case.target).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("index", range(5))
@given(case=cases())
def test_probabilities_are_another_way_to_say_logits(index, case):
    """The same prediction costs the same either way."""
    torch.testing.assert_close(
        make_losses(from_logits=False)[index](torch.sigmoid(case.pred), case.target, mask=case.mask),
        make_losses(from_logits=True)[index](case.pred, case.target, mask=case.mask),
    )
