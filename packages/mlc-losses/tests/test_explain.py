"""Losses say what they compute."""

import pytest

from mlc_losses import (
    BCELoss,
    CrossEntropyLoss,
    DeepSupervisionLoss,
    DiceLoss,
    GeneralizedDiceLoss,
    LossManager,
    LovaszLoss,
    TverskyLoss,
)


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
        (BCELoss(label_smoothing=0.1), ["t smoothed to t·0.9 + 0.1/2"]),
        (BCELoss(gamma=1, alpha="balanced"), ["n over twice the voxels of that side"]),
        (DiceLoss(log=True, empty="volume"), ["it costs -log(1 - m), m = (Σp + Σt - 2·tp) / (n + s)"]),
        (TverskyLoss(gamma=0.75), ["it costs m^0.75, m = "]),
        (DiceLoss(log=True), ["Log-Dice loss = -log((2·tp + s) / (Σp + Σt + s))"]),
        (DiceLoss(smooth_nr=0), ["s = 0 above the line, 1e-06 below it"]),
        (
            DiceLoss(mode="multiclass", include_background=False, class_weights=[0, 1, 3], label_smoothing=0.1),
            ["p = softmax(pred)", "without channel 0, channels weigh 0 : 1 : 3", "t smoothed to t·0.9 + 0.1/K"],
        ),
        (TverskyLoss(), ["Tversky loss = 1 - (tp + s) / (tp + 0.3·(Σp - tp) + 0.7·(Σt - tp) + s)"]),
        (TverskyLoss(gamma=0.75), ["Focal Tversky loss = (1 - ", ")^0.75"]),
        (
            GeneralizedDiceLoss(mode="multilabel"),
            ["Generalised Dice loss = 1 - ", "v = (least Σt / Σt)²", "all channels of each sample together"],
        ),
        (
            LovaszLoss(mode="multilabel", batch=True, ignore_index=255),
            ["Lovász loss = ", "whole batch", "target 255 do not count", "empty=volume"],
        ),
        (CrossEntropyLoss(), ["Cross entropy loss = -Σ t·log p", "Σ t of them"]),
        (
            CrossEntropyLoss(gamma=2, class_weights=[1, 2], label_smoothing=0.1),
            ["Focal loss = -Σ v·t·(1-p)^gamma·log p", "gamma = 2, v = 1 : 2, t smoothed to t·0.9 + 0.1/K", "Σ v·t"],
        ),
        (
            DeepSupervisionLoss(DiceLoss(), weights=[4, 2]),
            ["Mean over the network's outputs, from the finest on, weighing 4 : 2, of\nDice loss"],
        ),
        (DeepSupervisionLoss(DiceLoss()), ["weighing 1 : 0.5 : 0.25 : …, of"]),
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
