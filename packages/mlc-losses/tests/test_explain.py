"""Losses say what they compute."""

import pytest

from mlc_losses import BCELoss, DiceLoss, LossManager


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (DiceLoss(), ["Dice loss = 1 - (2·tp + s) / (Σp + Σt + s)", "s = 1e-06", "p = sigmoid(pred)", "empty=volume"]),
        (DiceLoss(jaccard=True, smooth=1), ["Jaccard loss = 1 - (tp + s) / (Σp + Σt - tp + s)", "s = 1,"]),
        (DiceLoss(squared_pred=True), ["/ (Σp² + Σt² + s)", "tp = Σ p·t"]),
        (DiceLoss(batch=True, reduction="sum"), ["channel of the whole batch", "reduction sum"]),
        (DiceLoss(empty="skip", from_logits=False, mode="multilabel"), ["empty=skip", "p = pred,", "mode multilabel"]),
        (BCELoss(), ["Binary cross entropy loss = -[t·log p + (1-t)·log(1-p)]"]),
        (
            BCELoss(gamma=2, alpha=0.25),
            ["Focal loss = -[a·t·(1-p)^gamma·log p + (1-a)·(1-t)·p^gamma·log(1-p)]", "gamma = 2", "background 0.75"],
        ),
        (BCELoss(label_smoothing=0.1), ["t smoothed to t·0.9 + 0.05"]),
        (
            LossManager.create_loss_function({"type": "combined", "dice_weight": 0.7, "bce_weight": 0.3}),
            ["Combined loss = 0.7·dice + 0.3·bce", "\n  dice: Dice loss", "\n  bce: Binary cross entropy"],
        ),
    ],
)
def test_explanation_names_formula_and_options(loss, says):
    """The formula with its options is there to read."""
    text = loss.explain()

    assert [] == [part for part in says if part not in text]
