"""Gradients agree with finite differences under every pair of options."""

from itertools import product

import pytest
import torch

from mlc_losses import BCELoss, DiceLoss

PRED = torch.tensor([[[-1.5, 0.4, 2.0], [0.3, -0.7, 1.1]], [[0.2, 3.0, -2.5], [-0.1, 0.9, -1.2]]], dtype=torch.float64)
HARD = torch.tensor([[[0.0, 1, 1], [0, 0, 0]], [[1, 1, 0], [0, 1, 0]]])
SOFT = torch.tensor([[[0.1, 0.8, 1], [0, 0, 0]], [[0.6, 1, 0.3], [0.2, 0.5, 0.9]]], dtype=torch.float64)
MASK = torch.tensor([[[True, True, False]], [[True, False, True]]])


def check(loss):
    """Hold the gradient against differences for hard and soft targets, with and without a mask."""
    pred = (PRED if loss.from_logits else torch.sigmoid(PRED)).requires_grad_()
    for target, mask in product((HARD, SOFT), (None, MASK)):
        assert torch.autograd.gradcheck(lambda one, t=target, m=mask: loss(one, t, mask=m), [pred], fast_mode=True)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("empty", ["volume", "formula", "skip"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_dice(from_logits, empty, reduction):
    """Dice and Jaccard, with squares or not, per sample or per batch, with every smooth."""
    for jaccard, squared_pred, batch, smooth in product((True, False), (True, False), (True, False), (0, 1e-6, 1.0)):
        if smooth or empty != "smooth":
            check(
                DiceLoss(
                    smooth=smooth,
                    jaccard=jaccard,
                    squared_pred=squared_pred,
                    batch=batch,
                    empty=empty,
                    mode="multilabel",
                    from_logits=from_logits,
                    reduction=reduction,
                )
            )


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_bce(from_logits, reduction):
    """BCE and focal, weighted and smoothed or not."""
    for gamma, alpha, label_smoothing in product((0, 0.5, 2.0), (None, 0.25), (0, 0.1)):
        check(
            BCELoss(
                gamma=gamma,
                alpha=alpha,
                label_smoothing=label_smoothing,
                mode="multilabel",
                from_logits=from_logits,
                reduction=reduction,
            )
        )
