"""Gradients agree with finite differences under every pair of options, of the loss and of what it is given."""

import pytest
import torch
from pairs import all_pairs
from torch.nn import functional

from mlc_losses import BCELoss, CombinedLoss, DiceLoss, LossConfigError, LossInputError
from mlc_losses.cross_entropy import CrossEntropyLoss
from mlc_losses.deep_supervision import DeepSupervisionLoss
from mlc_losses.generalized import GeneralizedDiceLoss
from mlc_losses.lovasz import LovaszLoss
from mlc_losses.tversky import TverskyLoss

VOID = 255
GIVEN = {
    "target": ["hard", "bool", "soft"],
    "mask": [None, "shared", "each"],
    "weight": [None, "shared", "each"],
    "pred": ["contiguous", "strided"],
}
COMMON = {
    "mode": ["multilabel", "multiclass", "binary"],
    "from_logits": [True, False],
    "ignore_index": [None, VOID, 1],
    "reduction": ["mean", "sum", "sample", "none"],
    "class_weights": [None, [1.0, 0.0, 2.5]],
    "include_background": [True, False],
}
REGION = {
    **COMMON,
    "smooth": [1e-6, 0.0, 1.0],
    "smooth_nr": [None, 0.5],
    "smooth_dr": [None, 0.25],
    "squared_pred": [False, True],
    "batch": [False, True],
    "empty": ["volume", "formula", "skip"],
    "label_smoothing": [0.0, 0.2],
}
VOXEL = {**COMMON, "gamma": [0.0, 0.5, 2.0], "label_smoothing": [0.0, 0.2]}
OPTIONS = {
    BCELoss: {**VOXEL, "alpha": [None, 0.25, "balanced"]},
    CrossEntropyLoss: {
        **{name: values for name, values in VOXEL.items() if name not in {"mode", "include_background"}},
        "mode": ["multiclass"],
    },
    DiceLoss: {**REGION, "jaccard": [False, True], "log": [False, True]},
    GeneralizedDiceLoss: {**REGION, "volume_weights": ["square", "simple", "uniform"]},
    LovaszLoss: {**COMMON, "batch": [False, True], "empty": ["volume", "formula", "skip"]},
    TverskyLoss: {**REGION, "alpha": [0.3, 0.0, 1.0], "beta": [0.7, 0.0, 0.3], "gamma": [1.0, 0.75, 2.0]},
}


def split(case):
    """Return the options of a loss, and of its tensors."""
    return {k: v for k, v in case.items() if k not in GIVEN}, {k: v for k, v in case.items() if k in GIVEN}


def draw(loss, given):
    """Return tensors of two samples and three voxels, of which the last sample lacks the last channel."""
    maker = torch.Generator().manual_seed(9)
    channels, softmax = 1 if loss.mode == "binary" else 3, loss.mode == "multiclass"
    pred = torch.randn(2, channels, 3, generator=maker, dtype=torch.float64)
    if not loss.from_logits:
        pred = torch.softmax(pred, 1) if softmax else torch.sigmoid(pred)
    if given["pred"] == "strided":
        pred = pred.transpose(0, 2).contiguous().transpose(0, 2)
    labels = torch.tensor([[0, 2, 1], [1, 0, 1]])
    if softmax and given["target"] == "hard":
        target = labels
    else:
        target = functional.one_hot(labels, 3).movedim(-1, 1)[:, -channels:]
        target = target.bool() if given["target"] == "bool" else target.double()
    if given["target"] == "soft":
        target = target * 0.75 + 0.25 / 3
        target[1, -1] = 0 if not softmax else target[1, -1]
    if loss.ignore_index == VOID and target.dtype != torch.bool:
        target[0, ..., 0] = VOID
    each = (2, channels, 3) if not softmax else (2, 1, 3)
    mask = torch.ones(each if given["mask"] == "each" else (2, 1, 3), dtype=torch.bool)
    mask[1, 0, 2] = False
    weight = torch.rand(each if given["weight"] == "each" else (2, 1, 3), generator=maker, dtype=torch.float64) + 0.5
    weight[1, 0, 0] = 0
    return (
        pred.requires_grad_(),
        target,
        {
            "mask": mask if given["mask"] else None,
            "weight": weight if given["weight"] else None,
        },
    )


def works(kind):
    """Return whether a case of a loss is one, as a function of the case."""

    def answer(case):
        options, given = split(case)
        try:
            loss = kind(**options)
            pred, target, what_counts = draw(loss, given)
            loss(pred, target, **what_counts)
        except (LossConfigError, LossInputError):
            return False
        return True

    return answer


CASES = [(kind, case) for kind, factors in OPTIONS.items() for case in all_pairs({**factors, **GIVEN}, works(kind))]


def describe(value):
    """Return a short name of a case: what is not the default."""
    if isinstance(value, type):
        return value.__name__
    first = {name: values[0] for factors in (*OPTIONS.values(), GIVEN) for name, values in factors.items()}
    return "-".join(f"{k}={v}" for k, v in value.items() if v != first[k]) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("kind", "case"), CASES, ids=describe)
def test_first_derivatives(kind, case):
    """Every pair of options of a loss and of its tensors, in float64, has the gradient of its value."""
    options, given = split(case)
    loss = kind(**options)
    pred, target, what_counts = draw(loss, given)

    assert torch.autograd.gradcheck(lambda one: loss(one, target, **what_counts), [pred])


@pytest.mark.parametrize(("kind", "case"), CASES[::6], ids=describe)
def test_second_derivatives(kind, case):
    """So have the gradients themselves."""
    options, given = split(case)
    loss = kind(**options)
    pred, target, what_counts = draw(loss, given)

    assert torch.autograd.gradgradcheck(lambda one: loss(one, target, **what_counts), [pred], fast_mode=True)


@pytest.mark.parametrize("kind", OPTIONS)
def test_cases_have_every_value(kind):
    """Every value of every option is in some case, but for those that a loss refuses whatever goes with them."""
    refused = {BCELoss: ["multiclass"], LovaszLoss: ["soft"]}
    cases = [case for one, case in CASES if one is kind]
    missing = [
        value
        for name, values in {**OPTIONS[kind], **GIVEN}.items()
        for value in values
        if not any(case[name] == value for case in cases)
    ]

    assert refused.get(kind, []) == missing


@pytest.mark.parametrize("mode", ["multilabel", "multiclass"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "sample"])
@pytest.mark.parametrize("mask", [None, "shared"])
@pytest.mark.parametrize("weight", [None, "shared"])
@pytest.mark.parametrize("target", ["hard", "soft"])
def test_combinations(mode, reduction, mask, weight, target):
    """Several losses in one pass have the gradient of their sum, first and second."""
    facts = {"mode": mode, "ignore_index": VOID, "reduction": reduction}
    voxels = CrossEntropyLoss if mode == "multiclass" else BCELoss
    parts = {
        "dice": DiceLoss(**facts),
        "squared": DiceLoss(squared_pred=True, label_smoothing=0.1, **facts),
        "tversky": TverskyLoss(gamma=0.75, **facts),
        "voxels": voxels(**facts),
        "focal": voxels(gamma=2.0, label_smoothing=0.1, **facts),
    }
    loss = CombinedLoss(parts, dict(zip(parts, (0.5, 0.2, 1.0, 0.3, 2.0), strict=True)))
    given = {"target": target, "mask": mask, "weight": weight, "pred": "contiguous"}
    pred, wanted, what_counts = draw(loss, given)

    assert torch.autograd.gradcheck(lambda one: loss(one, wanted, **what_counts), [pred])
    assert torch.autograd.gradgradcheck(lambda one: loss(one, wanted, **what_counts), [pred], fast_mode=True)


def test_outputs_of_several_resolutions():
    """Each output of deep supervision gets its own gradient."""
    loss = DeepSupervisionLoss(CombinedLoss({"a": DiceLoss(), "b": BCELoss()}, {"a": 1.0, "b": 0.5}))
    maker = torch.Generator().manual_seed(2)
    preds = [torch.randn(1, 1, n, n, generator=maker, dtype=torch.float64, requires_grad=True) for n in (4, 2, 1)]
    target = (torch.rand(1, 1, 4, 4, generator=maker) < 0.5).double()

    assert torch.autograd.gradcheck(lambda *outputs: loss(outputs, target), preds)
