"""Options that cannot be followed are refused when the loss is made."""

import pytest

from mlc_hooks import MlcError
from mlc_losses import (
    BCELoss,
    CrossEntropyLoss,
    DiceLoss,
    GeneralizedDiceLoss,
    LossConfigError,
    LovaszLoss,
    TverskyLoss,
)


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (DiceLoss, {"smooth": -1}, "smooth is -1; give a finite number, at least 0"),
        (DiceLoss, {"smooth": float("inf")}, "finite"),
        (DiceLoss, {"smooth": float("nan")}, "finite"),
        (DiceLoss, {"smooth": "1e-6"}, "YAML reads 1e-6 as text; write 1.0e-6"),
        (DiceLoss, {"smooth": True}, "a bool; give a number"),
        (DiceLoss, {"smooth": None}, "a NoneType; give a number"),
        (DiceLoss, {"smooth": 0, "empty": "formula"}, "0/0"),
        (DiceLoss, {"jaccard": "no"}, "jaccard is 'no'; give True or False"),
        (DiceLoss, {"squared_pred": 1}, "give True or False"),
        (DiceLoss, {"batch": None}, "give True or False"),
        (DiceLoss, {"empty": "volum"}, "Did you mean 'volume'"),
        (DiceLoss, {"mode": "multiclas"}, "Did you mean 'multiclass'.* Known: binary, multiclass, multilabel"),
        (DiceLoss, {"reduction": "average"}, "Known: mean, none, sample, sum"),
        (DiceLoss, {"batch": True, "reduction": "sample"}, "give one"),
        (DiceLoss, {"include_background": False}, "has no other"),
        (DiceLoss, {"class_weights": [1.0, 2.0]}, "mode='binary' has one"),
        (DiceLoss, {"class_weights": "12", "mode": "multilabel"}, "give a list"),
        (DiceLoss, {"class_weights": [1], "mode": "multilabel"}, "two at least"),
        (DiceLoss, {"class_weights": [0, 0], "mode": "multilabel"}, "not all 0"),
        (DiceLoss, {"class_weights": [1, -1], "mode": "multilabel"}, r"class_weights\[1\] is -1"),
        (DiceLoss, {"distributed": True, "reduction": "none"}, "keeps apart"),
        (DiceLoss, {"ignore_index": 1.5}, "ignore_index is 1.5; give an integer"),
        (DiceLoss, {"ignore_index": True}, "give an integer"),
        (DiceLoss, {"log": True, "smooth_nr": 1e-40}, "1e-20 at least"),
        (DiceLoss, {"smooth": 10**400}, "finite number"),
        (DiceLoss, {"ignore_index": 2**70}, "an integer of 64 bits"),
        (DiceLoss, {"empty": ["skip"]}, r"empty is \['skip'\]"),
        (LovaszLoss, {"empty": ["skip"]}, r"empty is \['skip'\]"),
        (DiceLoss, {"smooth": 1, "smooth_nr": 0, "smooth_dr": 1}, "smooth=1 would be unused"),
        (DiceLoss, {"smooth_nr": -1}, "smooth_nr is -1"),
        (DiceLoss, {"smooth_dr": 0, "empty": "formula"}, "0/0"),
        (DiceLoss, {"log": True, "smooth": 0}, "no finite gradient where nothing overlaps"),
        (TverskyLoss, {"alpha": 0, "beta": 0}, "no mistake has a price"),
        (TverskyLoss, {"gamma": 0}, "above 0"),
        (TverskyLoss, {"alpha": -1}, "alpha is -1"),
        (GeneralizedDiceLoss, {"volume_weights": "cube", "mode": "multilabel"}, "Known: simple, square, uniform"),
        (GeneralizedDiceLoss, {"volume_weights": "simple"}, "mode='binary' has one"),
        (LovaszLoss, {"empty": "none"}, "Known: formula, skip, volume"),
        (LovaszLoss, {"batch": True, "reduction": "sample"}, "give one"),
        (LovaszLoss, {"include_background": False}, "has no other"),
        (CrossEntropyLoss, {"mode": "binary"}, "wants bce"),
        (CrossEntropyLoss, {"class_weights": [1]}, "two at least"),
        (BCELoss, {"mode": "multiclass"}, "give cross_entropy"),
        (BCELoss, {"include_background": False}, "has no other"),
        (BCELoss, {"alpha": "balance"}, "alpha is 'balance'. Did you mean 'balanced'"),
        (DiceLoss, {"from_logits": "yes"}, "give True or False"),
        (DiceLoss, {"check_inputs": 0}, "give True or False"),
        (BCELoss, {"gamma": -0.1}, "gamma is -0.1"),
        (BCELoss, {"alpha": 1.1}, "alpha is 1.1; give a finite number, from 0 to 1"),
        (BCELoss, {"label_smoothing": 2}, "from 0 to 1"),
        (BCELoss, {"reduction": None}, "reduction is None"),
    ],
)
def test_values_out_of_range_are_refused(make, options, says):
    """The message names the option, the value and what may stand there."""
    with pytest.raises(LossConfigError, match=says) as caught:
        make(**options)

    assert isinstance(caught.value, (MlcError, ValueError))
