"""Options that cannot be followed are refused when the loss is made."""

import pytest

from mlc_hooks import MlcError
from mlc_losses import BCELoss, DiceLoss, LossConfigError


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
        (DiceLoss, {"mode": "multiclass"}, "Did you mean 'multilabel'.* Known: binary, multilabel"),
        (DiceLoss, {"reduction": "average"}, "Known: mean, none, sum"),
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
