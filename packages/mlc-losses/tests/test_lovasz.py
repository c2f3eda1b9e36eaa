"""The Lovász loss is the convex closure of 1 - IoU."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlc_losses import LossConfigError, LossInputError
from mlc_losses.lovasz import LovaszLoss
from mlc_losses.testing.strategies import cases


def jaccard_loss(p, t):
    """Return 1 - IoU of two sets."""
    union = ((p + t) > 0).sum().item()
    return 1 - (p * t).sum().item() / union if union else 0.0


@pytest.mark.parametrize("target", list(product([0.0, 1.0], repeat=4)))
def test_vertices_are_one_minus_iou(target):
    """Of every set against every set of four voxels, it is 1 - IoU to the last bit but one."""
    t = torch.tensor(target, dtype=torch.float64)
    loss = LovaszLoss(from_logits=False, empty="formula")

    for vertex in product([0.0, 1.0], repeat=4):
        p = torch.tensor(vertex, dtype=torch.float64)

        assert jaccard_loss(p, t) == pytest.approx(loss(p.view(1, 1, 4), t.view(1, 1, 4)).item(), abs=1e-15)


@given(case=cases(channels=1, samples=1), other=st.integers(0, 99), share=st.floats(0, 1))
def test_it_is_convex(case, other, share):
    """Between two predictions it is at most between their losses, as the loss of sets by themselves is not."""
    loss = LovaszLoss(from_logits=False, empty="formula")
    one, two = torch.sigmoid(case.pred), torch.rand_like(case.pred, generator=torch.Generator().manual_seed(other))
    between = share * loss(one, case.target) + (1 - share) * loss(two, case.target)

    assert loss(share * one + (1 - share) * two, case.target) <= between + 1e-12


@given(case=cases(channels=1, samples=1))
def test_order_of_equal_errors_does_not_matter(case):
    """Where all errors are the same, any order of them gives the same loss."""
    p = torch.where(case.target == 1, 0.75, 0.25).double()
    loss = LovaszLoss(from_logits=False, empty="formula")

    assert 0.25 == pytest.approx(loss(p, case.target).item())


@pytest.mark.parametrize("mode", ["binary", "multilabel"])
def test_what_is_ignored_is_not_the_greatest_error(mode):
    """On an empty mask "formula" is the greatest probability of what counts, whatever stands where nothing does."""
    pred = torch.tensor([[[-3.0, -2.0, 9.0]]], dtype=torch.float64)
    mask = torch.tensor([[[True, True, False]]])
    loss = LovaszLoss(empty="formula", mode=mode)

    torch.testing.assert_close(loss(pred, torch.zeros_like(pred), mask=mask), torch.sigmoid(pred[0, 0, 1]))
    torch.testing.assert_close(loss(pred, torch.zeros_like(pred), weight=mask.double()), torch.sigmoid(pred[0, 0, 1]))


def test_absent_classes_are_a_choice():
    """An absent class costs its mean by default, its maximum by formula, and nothing where it is skipped."""
    p = torch.tensor([[[0.1, 0.2, 0.6]]], dtype=torch.float64)
    values = [
        LovaszLoss(from_logits=False, empty=empty)(p, torch.zeros_like(p)).item()
        for empty in ("volume", "formula", "skip")
    ]

    assert [0.3, 0.6, 0.0] == pytest.approx(values)


def test_options_that_cannot_be_followed_are_refused():
    """Regions over the batch have no samples, and a single channel no background to leave out."""
    with pytest.raises(LossConfigError, match="batch=True"):
        LovaszLoss(batch=True, reduction="sample")
    with pytest.raises(LossConfigError, match="include_background"):
        LovaszLoss(include_background=False)


def test_fractions_are_refused():
    """It compares sets; a soft target is no set."""
    with pytest.raises(LossInputError, match="fractions"):
        LovaszLoss()(torch.zeros(1, 1, 2), torch.tensor([[[0.5, 1.0]]]))


@given(case=cases(channels=3, labels=True))
def test_no_voxels_no_samples(case):
    """Nothing at all costs nothing, and has a gradient."""
    pred = case.pred[:0].requires_grad_()
    value = LovaszLoss(mode="multiclass")(pred, case.target[:0])
    value.backward()

    assert value.item() == 0
    assert pred.grad.shape == pred.shape
