"""Channels that share one probability: class numbers, one-hot targets and sigmoids say the same."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from mlc_losses import BCELoss, CombinedLoss, DiceLoss, LossInputError
from mlc_losses.cross_entropy import CrossEntropyLoss
from mlc_losses.generalized import GeneralizedDiceLoss
from mlc_losses.lovasz import LovaszLoss
from mlc_losses.testing.strategies import cases
from mlc_losses.tversky import TverskyLoss

MANY = {"mode": "multiclass"}
LOSSES = [
    CrossEntropyLoss(),
    CrossEntropyLoss(gamma=2.0, label_smoothing=0.1),
    DiceLoss(**MANY),
    DiceLoss(jaccard=True, squared_pred=True, batch=True, **MANY),
    DiceLoss(log=True, label_smoothing=0.2, **MANY),
    TverskyLoss(gamma=0.75, empty="skip", **MANY),
    GeneralizedDiceLoss(**MANY),
    LovaszLoss(**MANY),
]
EACH = pytest.mark.parametrize("loss", LOSSES)


def one_hot(labels, channels):
    """Return labels as one channel for each class."""
    return functional.one_hot(labels, channels).movedim(-1, 1)


def gradient(loss, pred, target, **what_counts):
    """Return the derivative of the loss with respect to the prediction."""
    leaf = pred.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf, target, **what_counts), leaf)
    return found


@EACH
@given(case=cases(labels=True))
def test_labels_are_one_hot_targets(loss, case):
    """Class numbers, with or without a channel axis, cost what the same classes as channels do."""
    hot = one_hot(case.target, case.pred.shape[1])
    expected = loss(case.pred, case.target, **case.what_counts)

    torch.testing.assert_close(loss(case.pred, case.target.unsqueeze(1), **case.what_counts), expected)
    torch.testing.assert_close(loss(case.pred, hot, **case.what_counts), expected)
    torch.testing.assert_close(loss(case.pred, hot.double(), **case.what_counts), expected)
    torch.testing.assert_close(
        gradient(loss, case.pred, hot.double(), **case.what_counts),
        gradient(loss, case.pred, case.target, **case.what_counts),
    )


@EACH
@given(case=cases(labels=True), shift=st.floats(-50, 50))
def test_adding_to_all_logits_changes_nothing(loss, case, shift):
    """A softmax knows differences alone."""
    torch.testing.assert_close(loss(case.pred + shift, case.target), loss(case.pred, case.target))


@EACH
@given(case=cases(labels=True), seed=st.integers(0, 99))
def test_order_of_classes_does_not_matter(loss, case, seed):
    """Numbering the classes otherwise, on both sides, changes nothing but rounding."""
    order = torch.randperm(case.pred.shape[1], generator=torch.Generator().manual_seed(seed))
    place = torch.argsort(order)

    torch.testing.assert_close(
        loss(case.pred[:, order], place[case.target], **case.what_counts),
        loss(case.pred, case.target, **case.what_counts),
    )


@given(case=cases(channels=2, labels=True), gamma=st.sampled_from([0.0, 0.5, 2.0]))
def test_two_classes_are_one_channel(case, gamma):
    """A softmax of two is the sigmoid of their difference: cross entropy is BCE, and the second class a mask."""
    difference, mask = case.pred[:, 1:] - case.pred[:, :1], case.target.unsqueeze(1)

    torch.testing.assert_close(
        CrossEntropyLoss(gamma=gamma)(case.pred, case.target, **case.what_counts),
        BCELoss(gamma=gamma)(difference, mask, mask=case.mask.unsqueeze(1), weight=case.weight.unsqueeze(1)),
    )
    torch.testing.assert_close(
        DiceLoss(include_background=False, **MANY)(case.pred, case.target), DiceLoss()(difference, mask)
    )


@EACH
@given(case=cases(channels=3, labels=True), seed=st.integers(0, 99))
def test_ignored_labels_are_a_mask(loss, case, seed):
    """A label that nobody gave a class is a voxel that the mask leaves out, whatever number it has."""
    where = torch.rand(case.target.shape, generator=torch.Generator().manual_seed(seed)) < 0.3

    for number in (255, -1, -100):
        loss.ignore_index = number
        try:
            found = loss(case.pred, torch.where(where, number, case.target), **case.what_counts)
        finally:
            loss.ignore_index = None

        torch.testing.assert_close(found, loss(case.pred, case.target, mask=case.mask & ~where, weight=case.weight))


@given(case=cases(channels=3, labels=True), ignored=st.integers(0, 2))
def test_ignored_class_is_no_region_but_in_the_softmax(case, ignored):
    """To ignore a class leaves its voxels out, and its region, but not its logit (torch #63004 keeps that too)."""
    kept = [one for one in range(3) if one != ignored]
    judged = DiceLoss(ignore_index=ignored, reduction="none", **MANY)(case.pred, case.target)
    masked = DiceLoss(reduction="none", **MANY)(case.pred, case.target, mask=case.target != ignored)

    assert not judged[:, ignored].any()
    torch.testing.assert_close(judged[:, kept], masked[:, kept])


@pytest.mark.parametrize("ignored", [0, 1, 2])
def test_ignored_class_of_soft_targets_is_refused(ignored):
    """Where the target holds probabilities, no voxel is of one class, and a probability of 0 is not class 0."""
    target = torch.full((1, 3, 2), 1 / 3)

    with pytest.raises(LossInputError, match="give a mask"):
        CrossEntropyLoss(ignore_index=ignored)(torch.zeros(1, 3, 2), target)


def test_ignored_voxels_of_soft_targets_are_left_out_whole():
    """A value of *ignore_index* in any channel leaves the voxel out, since its channels share one probability."""
    maker = torch.Generator().manual_seed(1)
    pred, target = torch.randn(1, 3, 4, generator=maker), torch.softmax(torch.randn(1, 3, 4, generator=maker), 1)
    void = target.clone()
    void[:, 0, 3] = 255

    for kind in (CrossEntropyLoss, lambda **options: DiceLoss(**MANY, **options)):
        expected = kind()(pred[..., :3], target[..., :3])

        torch.testing.assert_close(kind(ignore_index=255)(pred, void), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_labels_of_every_integer_dtype(dtype):
    """Class numbers may be of any width, and what a dtype cannot hold is not in it."""
    pred = torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([[0, 1, 2, 0, 1, 2]])
    expected = CrossEntropyLoss()(pred, labels)

    for number in (None, 255, -1, -100, 70_000):
        assert torch.equal(expected, CrossEntropyLoss(ignore_index=number)(pred, labels.to(dtype)))


def test_negative_index_is_not_the_last_number_of_a_byte():
    """A mask of 0 and 255 is not taken for one that is ignored because -1 of a byte is 255."""
    labels = torch.tensor([[0, 1, 255]], dtype=torch.uint8)

    with pytest.raises(LossInputError, match="255"):
        CrossEntropyLoss(ignore_index=-1)(torch.zeros(1, 3, 3), labels)


@given(case=cases(channels=3, labels=True))
def test_combinations_are_sums(case):
    """A combination over classes costs what its parts do."""
    parts = {"dice": DiceLoss(**MANY), "cross_entropy": CrossEntropyLoss(), "lovasz": LovaszLoss(**MANY)}
    weights = {"dice": 0.5, "cross_entropy": 1.0, "lovasz": 0.25}
    expected = sum(weights[name] * loss(case.pred, case.target, **case.what_counts) for name, loss in parts.items())

    torch.testing.assert_close(CombinedLoss(parts, weights)(case.pred, case.target, **case.what_counts), expected)


@given(case=cases(channels=3, labels=True), seed=st.integers(0, 99))
def test_class_weights_are_weights_of_means(case, seed):
    """Scaling them changes nothing, and a weight of 0 leaves a class out."""
    weights = (torch.rand(3, generator=torch.Generator().manual_seed(seed)) + 0.1).tolist()
    for kind in (
        CrossEntropyLoss,
        lambda **o: DiceLoss(**MANY, **o),
        lambda **o: LovaszLoss(**MANY, **o),
        lambda **o: GeneralizedDiceLoss(smooth=0, **MANY, **o),
    ):
        one, other = kind(class_weights=weights), kind(class_weights=[7 * weight for weight in weights])

        torch.testing.assert_close(one(case.pred, case.target), other(case.pred, case.target))
    for kind in (DiceLoss, LovaszLoss, GeneralizedDiceLoss, TverskyLoss):
        torch.testing.assert_close(
            kind(class_weights=[0.0, 1.0, 1.0], **MANY)(case.pred, case.target),
            kind(include_background=False, **MANY)(case.pred, case.target),
        )
