"""What must hold between losses, whatever the numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlc_losses import BCELoss, CombinedLoss, DiceLoss
from mlc_losses.generalized import GeneralizedDiceLoss
from mlc_losses.lovasz import LovaszLoss
from mlc_losses.testing.strategies import cases
from mlc_losses.tversky import TverskyLoss

MANY = {"mode": "multilabel"}


def make_losses(**options):
    """Return losses that between them use every option."""
    return (
        DiceLoss(**MANY, **options),
        DiceLoss(jaccard=True, squared_pred=True, empty="skip", **MANY, **options),
        DiceLoss(smooth=1, batch=True, empty="formula", **MANY, **options),
        BCELoss(label_smoothing=0.1, **MANY, **options),
        BCELoss(gamma=0.5, alpha=0.3, **MANY, **options),
        TverskyLoss(gamma=0.75, **MANY, **options),
        GeneralizedDiceLoss(**MANY, **options),
        LovaszLoss(**MANY, **options),
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


@given(case=cases(), index=st.integers(0, 7))
def test_reductions_agree(case, index):
    """The sum is the sum of the elements; BCE's mean is that over their count."""
    total, each, mean = (make_losses(reduction=one)[index] for one in ("sum", "none", "mean"))
    elements = each(case.pred, case.target, mask=case.mask)
    count = case.mask.sum().clamp_min(1)

    torch.testing.assert_close(total(case.pred, case.target, mask=case.mask), elements.sum())
    if isinstance(mean, BCELoss):
        torch.testing.assert_close(mean(case.pred, case.target, mask=case.mask), elements.sum() / count)


def test_elements_have_the_documented_shapes():
    """Without reduction, a loss has a number for each region, BCE for each voxel, generalised Dice for each sample."""
    pred, target = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5)
    shapes = [tuple(loss(pred, target).shape) for loss in make_losses(reduction="none")]

    assert [(2, 3), (2, 3), (3,), (2, 3, 4, 5), (2, 3, 4, 5), (2, 3), (2,), (2, 3)] == shapes


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


@pytest.mark.parametrize("index", range(8))
@given(case=cases())
def test_probabilities_are_another_way_to_say_logits(index, case):
    """The same prediction costs the same either way."""
    torch.testing.assert_close(
        make_losses(from_logits=False)[index](torch.sigmoid(case.pred), case.target, mask=case.mask),
        make_losses(from_logits=True)[index](case.pred, case.target, mask=case.mask),
    )


@given(case=cases(), smooth=st.sampled_from([0.0, 1e-6, 1.0]), batch=st.booleans(), squared_pred=st.booleans())
def test_tversky_has_dice_and_jaccard_in_it(case, smooth, batch, squared_pred):
    """At 1/2 and 1/2 Tversky is Dice of twice the smooth, at 1 and 1 it is Jaccard."""
    options = {"batch": batch, "squared_pred": squared_pred, "empty": "skip", **MANY}

    torch.testing.assert_close(
        TverskyLoss(alpha=0.5, beta=0.5, smooth=smooth, **options)(case.pred, case.target, **case.what_counts),
        DiceLoss(smooth=2 * smooth, **options)(case.pred, case.target, **case.what_counts),
    )
    torch.testing.assert_close(
        TverskyLoss(alpha=1, beta=1, smooth=smooth, **options)(case.pred, case.target, **case.what_counts),
        DiceLoss(jaccard=True, smooth=smooth, **options)(case.pred, case.target, **case.what_counts),
    )


@given(case=cases(soft=True), alpha=st.floats(0, 2), beta=st.floats(0, 2), smooth=st.sampled_from([1e-6, 1.0]))
def test_swapped_prices_are_swapped_tensors(case, alpha, beta, smooth):
    """A false positive of one is a false negative of the other."""
    alpha, beta, p = alpha + 0.1, beta + 0.1, torch.sigmoid(case.pred)
    options = {"smooth": smooth, "from_logits": False, "empty": "formula", **MANY}

    torch.testing.assert_close(
        TverskyLoss(alpha=alpha, beta=beta, **options)(p, case.target),
        TverskyLoss(alpha=beta, beta=alpha, **options)(case.target, p),
    )


@given(case=cases(soft=True), smooth=st.sampled_from([0.0, 1e-6, 1.0]))
def test_uniform_generalised_dice_is_micro_dice(case, smooth):
    """With equal weights, all channels of a sample are one region of it."""
    flat = [one.flatten(1).unsqueeze(1) for one in (case.pred, case.target, case.mask, case.weight)]
    micro = DiceLoss(smooth=smooth, empty="skip")
    loss = GeneralizedDiceLoss(volume_weights="uniform", smooth=smooth, empty="skip", **MANY)
    mask = case.mask
    for channel in range(mask.shape[1]):  # a channel without foreground weighs nothing where it is skipped
        mask = mask.clone()
        present = (case.target * case.weight * mask)[:, channel].flatten(1).sum(1) > 0
        mask[:, channel] &= present.view(-1, *[1] * (mask.dim() - 2))

    torch.testing.assert_close(
        loss(case.pred, case.target, **case.what_counts),
        micro(flat[0], flat[1], mask=mask.flatten(1).unsqueeze(1), weight=flat[3]),
    )


@given(case=cases(soft=True), log=st.booleans(), smooth=st.sampled_from([1e-6, 1.0]))
def test_log_dice_is_the_logarithm_of_dice(case, log, smooth):
    """Region by region it is -log(1 - Dice loss)."""
    options = {"smooth": smooth, "reduction": "none", "empty": "formula", **MANY}

    torch.testing.assert_close(
        DiceLoss(log=True, **options)(case.pred, case.target),
        -torch.log1p(-DiceLoss(**options)(case.pred, case.target)),
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: DiceLoss(smooth=1, empty="skip", **options),
        lambda **options: BCELoss(gamma=2.0, alpha=0.3, label_smoothing=0.1, **options),
        lambda **options: TverskyLoss(gamma=0.75, **options),
        lambda **options: GeneralizedDiceLoss(**options),
        lambda **options: LovaszLoss(**options),
    ],
    ids=range(5),
)
@given(case=cases(samples=2))
def test_sample_means_are_losses_of_samples(make, case):
    """With reduction="sample" each sample has what it would have alone."""
    each = make(reduction="sample", **MANY)(case.pred, case.target, **case.what_counts)
    alone = make(**MANY)
    rows = [{name: one[[i]] for name, one in case.what_counts.items()} for i in range(2)]
    expected = torch.stack([alone(case.pred[[i]], case.target[[i]], **rows[i]) for i in range(2)])

    torch.testing.assert_close(each, expected)


@ALL
@given(case=cases(soft=False), factor=st.sampled_from([0.5, 4.0]))
def test_weights_are_relative(loss, case, factor):
    """Scaling all weights changes nothing but what a smooth of 1 is a share of."""
    if getattr(loss, "smooth_dr", 0) == 1:
        return
    one = loss(case.pred, case.target, weight=case.weight)

    torch.testing.assert_close(loss(case.pred, case.target, weight=factor * case.weight), one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"jaccard": True, "squared_pred": True}, {"smooth": 1, "log": True}], ids=str)
@given(case=cases(), smoothing=st.floats(0, 1))
def test_label_smoothing_moves_the_target_of_regions(options, case, smoothing):
    """Smoothing by e is a target of t·(1-e) + e/2 there too, where a region has foreground to begin with."""
    softer = case.target * (1 - smoothing) + smoothing / 2
    mask = case.target.flatten(2).any(-1).view(*case.target.shape[:2], *[1] * (case.target.dim() - 2))
    mask = mask.expand_as(case.target)
    one, other = DiceLoss(label_smoothing=smoothing, **options, **MANY), DiceLoss(**options, **MANY)

    torch.testing.assert_close(one(case.pred, case.target, mask=mask), other(case.pred, softer, mask=mask))
