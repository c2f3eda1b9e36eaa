"""Tensors that would give a wrong number are refused, with the way out."""

import re

import pytest
import torch

from mlc_losses import BCELoss, CombinedLoss, DiceLoss, LossInputError

LOSSES = [
    DiceLoss(),
    BCELoss(),
    CombinedLoss({"dice": DiceLoss(), "bce": BCELoss()}, {"dice": 0.7, "bce": 0.3}),
]
EACH = pytest.mark.parametrize("loss", LOSSES)


def make(*shape, dtype=torch.float32, value=0):
    """Return a tensor of one value."""
    return torch.full(shape, value, dtype=dtype)


@EACH
@pytest.mark.parametrize("check_inputs", [True, False])
@pytest.mark.parametrize(
    ("pred", "target", "mask", "says"),
    [
        (make(2, 1, 8, 8), make(2, 8, 8), None, "target is (2, 8, 8) but pred is (2, 1, 8, 8); .*unsqueeze(1)"),
        (make(2, 1, 8, 8), make(2, 4, 16), None, "target is (2, 4, 16) but pred is (2, 1, 8, 8)"),
        (make(2, 1, 8, 8), make(1, 1, 8, 8), None, "do not broadcast"),
        (make(2, 1, 8, 8), make(2, 3, 8, 8), None, "do not broadcast"),
        (make(2, 3, 8, 8), make(2, 3, 8, 8), None, "pred is (2, 3, 8, 8), 3 channels; .*mode='multilabel'"),
        (make(2, 1), make(2, 1), None, "at least one spatial axis"),
        (make(2, 1, 8, dtype=torch.int64), make(2, 1, 8), None, "pred is torch.int64"),
        (make(2, 1, 8), make(2, 1, 8, dtype=torch.complex64), None, "target is torch.complex64"),
        (make(2, 1, 8), make(2, 1, 8, dtype=torch.uint8).to("meta"), None, "target is on meta but pred is on cpu"),
        (make(2, 1, 8), make(2, 1, 8), make(2, 8, dtype=torch.bool), "mask is (2, 8); .*unsqueeze(1)"),
        (make(2, 1, 8), make(2, 1, 8), make(1, 1, 8, dtype=torch.bool), "mask is (1, 1, 8); give (2, 1, 8)"),
        (make(2, 1, 8), make(2, 1, 8), make(2, 1, 8), "mask is torch.float32; give bool"),
        (make(2, 1, 8), make(2, 1, 8), make(2, 1, 8, dtype=torch.bool).to("meta"), "mask is on meta"),
    ],
)
def test_form_is_always_checked(loss, check_inputs, pred, target, mask, says):
    """Shapes, dtypes and devices cost nothing to check, so nothing turns that off."""
    pattern = re.escape(says).replace(r"\.\*", ".*")
    loss.check_inputs = check_inputs
    try:
        with pytest.raises(LossInputError, match=pattern):
            loss(pred, target, mask=mask)
    finally:
        loss.check_inputs = True


@EACH
@pytest.mark.parametrize(
    ("target", "says"),
    [
        (torch.tensor([[[0, 255]]], dtype=torch.uint8), "target (torch.uint8) runs from 0 to 255; .*target > 0"),
        (torch.tensor([[[0, 3]]]), "from 0 to 3; .*one channel per class"),
        (torch.tensor([[[-1, 1]]]), "from -1 to 1"),
        (torch.tensor([[[0, 1.5]]]), "from 0 to 1.5"),
        (torch.tensor([[[0, -0.2]]]), "from -0.2 to 0"),
        (torch.tensor([[[0, float("nan")]]]), "nan"),
    ],
)
def test_targets_hold_0_to_1(loss, target, says):
    """Anything else is named with its range."""
    with pytest.raises(LossInputError, match=re.escape(says).replace(r"\.\*", ".*")) as caught:
        loss(make(1, 1, 2), target)

    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("loss", [DiceLoss(from_logits=False), BCELoss(from_logits=False)])
@pytest.mark.parametrize("value", [-0.5, 1.5, float("nan")])
def test_probabilities_lie_between_0_and_1(loss, value):
    """Logits where probabilities were promised are found out."""
    with pytest.raises(LossInputError, match="from_logits=False takes probabilities"):
        loss(make(1, 1, 2, value=value), make(1, 1, 2))


@EACH
def test_rounding_is_forgiven(loss):
    """A resampled mask may stand over the edge by a rounding error."""
    assert torch.isfinite(loss(make(1, 1, 2), torch.tensor([[[-1e-7, 1 + 1e-6]]])))


@EACH
def test_only_what_counts_is_checked(loss):
    """A label for "unknown" may stand where the mask ignores it."""
    target = torch.tensor([[[0, 1, 255]]])

    assert torch.isfinite(loss(make(1, 1, 3), target, mask=target != 255))


@EACH
def test_diverged_logits_are_not_a_bad_input(loss):
    """NaN logits give a NaN loss, which gradient scalers and loops look for."""
    assert torch.isnan(loss(make(1, 1, 2, value=float("nan")), make(1, 1, 2, value=1)))
