"""The losses agree with a second implementation in pure Python, with torch's own, and with MONAI's where right."""

import warnings

import oracle
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional

from mlc_losses import BCELoss, DiceLoss, LossConfigError
from mlc_losses.cross_entropy import CrossEntropyLoss
from mlc_losses.generalized import GeneralizedDiceLoss
from mlc_losses.lovasz import LovaszLoss
from mlc_losses.testing.strategies import cases
from mlc_losses.tversky import TverskyLoss

VOID = 255
REGION = {
    "smooth": [1e-6, 0.0, 1.0],
    "smooth_nr": [None, 0.5],
    "smooth_dr": [None, 0.25],
    "squared_pred": [False, True],
    "batch": [False, True],
    "include_background": [True, False],
    "class_weights": [None, [1.0, 0.0, 2.5]],
    "empty": ["volume", "formula", "skip"],
    "label_smoothing": [0.0, 0.2],
    "reduction": ["mean", "sum", "sample", "none"],
    "from_logits": [True, False],
}
VOXEL = {name: REGION[name] for name in ("class_weights", "label_smoothing", "reduction", "from_logits")}
CATALOG = {
    "bce": (
        BCELoss,
        {
            **VOXEL,
            "include_background": [True, False],
            "gamma": [0.0, 0.5, 2.0, 5.0],
            "alpha": [None, 0.0, 0.25, 0.9, "balanced"],
        },
    ),
    "cross_entropy": (CrossEntropyLoss, {**VOXEL, "gamma": [0.0, 0.5, 2.0, 5.0]}),
    "dice": (DiceLoss, {**REGION, "jaccard": [False, True], "log": [False, True]}),
    "generalized_dice": (GeneralizedDiceLoss, {**REGION, "volume_weights": ["square", "simple", "uniform"]}),
    "lovasz": (
        LovaszLoss,
        {
            name: REGION[name]
            for name in ("batch", "include_background", "class_weights", "empty", "reduction", "from_logits")
        },
    ),
    "tversky": (
        TverskyLoss,
        {**REGION, "alpha": [0.3, 0.0, 1.0, 0.5], "beta": [0.7, 0.0, 0.5], "gamma": [1.0, 0.75, 2.0]},
    ),
}


def judges_something(options):
    """Return whether *options* leave a class to judge, without which losses are refused."""
    weights = list(options.get("class_weights") or [1, 1, 1])
    left = [number for number, one in enumerate(weights) if one and number != options["ignore_index"]]
    return bool(left) and (options.get("include_background", True) or left != [0])


@st.composite
def made(draw, name, mode):
    """Draw a loss of three channels with any options that go together, and what it was made with."""
    kind, factors = CATALOG[name]
    options = {"mode": mode, **{key: draw(st.sampled_from(values)) for key, values in factors.items()}}
    options["ignore_index"] = draw(st.sampled_from([None, VOID, 0, 2] if mode == "multiclass" else [None, VOID]))
    assume(judges_something(options))
    try:
        return kind(**options), options
    except LossConfigError:
        plain = {"mode": mode, "ignore_index": options["ignore_index"], "class_weights": options["class_weights"]}
        return kind(**plain), plain


def hold(drawn, name, case, *, mask, weight):
    """Hold a loss against the second implementation."""
    loss, options = drawn
    what = {"mask": case.mask if mask else None, "weight": case.weight if weight else None}
    pred = case.pred
    if not loss.from_logits:
        pred = torch.softmax(pred, 1) if loss.mode == "multiclass" else torch.sigmoid(pred)
    expected = oracle.BY_NAME[name](pred, case.target, **what, **options)
    found = loss(pred, case.target, **what)
    if loss.reduction == "none" and name in {"bce", "cross_entropy"}:
        assert sum(expected) == pytest.approx(found.sum().item(), rel=1e-9, abs=1e-11)
    else:
        assert expected == pytest.approx(found.flatten().tolist(), rel=1e-9, abs=1e-11)


def void(case, seed):
    """Return the case with a few targets that nobody labelled."""
    target = case.target.clone()
    shape = (target.shape[0], 1, *target.shape[2:]) if target.shape == case.pred.shape else target.shape
    where = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.2
    target[where.expand_as(target)] = VOID
    return type(case)(pred=case.pred, target=target, mask=case.mask, weight=case.weight)


FLAGS = {"mask": st.booleans(), "weight": st.booleans(), "seed": st.integers(0, 99), "data": st.data()}


@pytest.mark.parametrize("name", ["bce", "dice", "generalized_dice", "lovasz", "tversky"])
@given(case=cases(channels=3), **FLAGS)
def test_channels_that_stand_alone(name, case, data, mask, weight, seed):
    """Every option, with masks, weights and what nobody labelled, is the formula in its documentation."""
    drawn = data.draw(made(name, "multilabel"))
    case = void(case, seed) if drawn[0].ignore_index == VOID else case

    hold(drawn, name, case, mask=mask, weight=weight)


@pytest.mark.parametrize("name", ["bce", "dice", "generalized_dice", "tversky"])
@given(case=cases(channels=3, soft=True), **FLAGS)
def test_channels_that_stand_alone_with_soft_targets(name, case, data, mask, weight, seed):
    """Fractions in the target go into the same formulas."""
    drawn = data.draw(made(name, "multilabel"))
    case = void(case, seed) if drawn[0].ignore_index == VOID else case

    hold(drawn, name, case, mask=mask, weight=weight)


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "generalized_dice", "lovasz", "tversky"])
@given(case=cases(channels=3, labels=True), **FLAGS)
def test_classes(name, case, data, mask, weight, seed):
    """With class numbers as the target, one of them ignored or not, every option is the formula too."""
    drawn = data.draw(made(name, "multiclass"))
    case = void(case, seed) if drawn[0].ignore_index == VOID else case

    hold(drawn, name, case, mask=mask, weight=weight)


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "generalized_dice", "tversky"])
@given(case=cases(channels=3, shared=True, soft=True), **FLAGS)
def test_classes_with_soft_targets(name, case, data, mask, weight, seed):
    """With probabilities as the target, every option is the formula too."""
    drawn = data.draw(made(name, "multiclass").filter(lambda one: one[0].ignore_index in {None, VOID}))
    case = void(case, seed) if drawn[0].ignore_index == VOID else case

    hold(drawn, name, case, mask=mask, weight=weight)


@pytest.mark.parametrize("name", ["bce", "dice", "lovasz", "tversky"])
@given(case=cases(channels=1), mask=st.booleans(), weight=st.booleans(), reduction=st.sampled_from(["mean", "sum"]))
def test_one_channel(name, case, mask, weight, reduction):
    """One channel is as many channels, of which there is one."""
    options = {"mode": "binary", "reduction": reduction}

    hold((CATALOG[name][0](**options), options), name, case, mask=mask, weight=weight)


@given(case=cases(channels=3, labels=True), gamma=st.sampled_from([0.0, 2.0]), smoothing=st.sampled_from([0.0, 0.1]))
def test_elements_of_voxel_losses_are_where_the_voxels_are(case, gamma, smoothing):
    """Without reduction each voxel has its own cost, in its own place, and 0 where it does not count."""
    loss = CrossEntropyLoss(gamma=gamma, label_smoothing=smoothing, reduction="none")
    found = loss(case.pred, case.target, mask=case.mask)
    alone = CrossEntropyLoss(gamma=gamma, label_smoothing=smoothing)

    assert found.shape == case.target.shape
    assert not found[~case.mask].any()
    for place in case.mask.nonzero().tolist():
        b, spatial = place[0], place[1:]
        pred = case.pred[(b, slice(None), *spatial)].view(1, 3, 1)
        target = case.target[tuple(place)].view(1, 1)

        torch.testing.assert_close(found[tuple(place)], alone(pred, target))


# torch ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@given(case=cases(soft=True))
def test_bce_is_that_of_torch(reduction, case):
    """With no options, BCE is `binary_cross_entropy_with_logits`."""
    expected = functional.binary_cross_entropy_with_logits(case.pred, case.target, reduction=reduction)

    torch.testing.assert_close(BCELoss(mode="multilabel", reduction=reduction)(case.pred, case.target), expected)


@given(case=cases(soft=True))
def test_weighted_sums_of_bce_are_those_of_torch(case):
    """A weight map in a sum is torch's *weight*."""
    expected = functional.binary_cross_entropy_with_logits(case.pred, case.target, weight=case.weight, reduction="sum")

    torch.testing.assert_close(
        BCELoss(mode="multilabel", reduction="sum")(case.pred, case.target, weight=case.weight), expected
    )


@given(case=cases(soft=True))
def test_bce_of_probabilities_is_that_of_torch(case):
    """Of probabilities, BCE is `binary_cross_entropy`."""
    p = torch.sigmoid(case.pred)

    torch.testing.assert_close(
        BCELoss(mode="multilabel", from_logits=False)(p, case.target), functional.binary_cross_entropy(p, case.target)
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@given(
    case=cases(channels=3, labels=True),
    ignore_index=st.sampled_from([None, VOID, -100, 0, 2]),
    class_weights=st.sampled_from([None, [1.0, 0.25, 3.0], [0.0, 1.0, 1.0]]),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    seed=st.integers(0, 99),
)
def test_cross_entropy_is_that_of_torch(reduction, case, ignore_index, class_weights, smoothing, seed):
    """Values and gradients are those of `cross_entropy` with its weights, ignored index and label smoothing."""
    case = void(case, seed) if ignore_index == VOID else case
    weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float64)
    leaf = case.pred.requires_grad_()
    expected = functional.cross_entropy(
        leaf,
        case.target,
        weight=weight,
        ignore_index=-100 if ignore_index is None else ignore_index,
        label_smoothing=smoothing,
        reduction=reduction,
    ).nan_to_num(0.0)
    loss = CrossEntropyLoss(
        ignore_index=ignore_index, class_weights=class_weights, label_smoothing=smoothing, reduction=reduction
    )
    found = loss(leaf, case.target)

    torch.testing.assert_close(found, expected)

    (right,) = torch.autograd.grad(expected.sum(), leaf)
    (gradient,) = torch.autograd.grad(found.sum(), leaf)

    torch.testing.assert_close(gradient, right.nan_to_num(0.0))


@given(case=cases(shared=True, soft=True), smoothing=st.sampled_from([0.0, 0.1]))
def test_cross_entropy_of_soft_targets_is_that_of_torch(case, smoothing):
    """With probabilities as the target too."""
    expected = functional.cross_entropy(case.pred, case.target, label_smoothing=smoothing)

    torch.testing.assert_close(CrossEntropyLoss(label_smoothing=smoothing)(case.pred, case.target), expected)


# MONAI ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def monai():
    """Return MONAI's losses, whose import warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("monai.losses")


def draw(*, classes=3, labels=False):
    """Return logits and a target that has every class in every sample."""
    maker = torch.Generator().manual_seed(11)
    pred = torch.randn(2, classes, 6, 5, generator=maker, dtype=torch.float64)
    if labels:
        return pred, torch.arange(60).view(2, 1, 6, 5).remainder(7).clamp_max(classes - 1)
    return pred, (torch.rand(2, classes, 6, 5, generator=maker) < 0.4).double()


SAMENESS = [
    {},
    {"squared_pred": True},
    {"jaccard": True},
    {"jaccard": True, "squared_pred": True},
    {"batch": True},
    {"include_background": False},
    {"reduction": "sum"},
]


@pytest.mark.parametrize("smooth", [1e-5, 2.0])
@pytest.mark.parametrize("options", SAMENESS, ids=str)
def test_dice_is_that_of_monai(monai, options, smooth):
    """Dice with equal smooths is MONAI's `DiceLoss`, sigmoid and softmax."""
    # MONAI doubles numerator and denominator of Jaccard, and adds the smooth after that
    own = {**options, "smooth": smooth / 2 if options.get("jaccard") else smooth}
    theirs = {**options, "smooth_nr": smooth, "smooth_dr": smooth}
    pred, target = draw()
    classes, labels = draw(labels=True)

    torch.testing.assert_close(
        DiceLoss(mode="multilabel", **own)(pred, target), monai.DiceLoss(sigmoid=True, **theirs)(pred, target)
    )
    torch.testing.assert_close(
        DiceLoss(mode="multiclass", **own)(classes, labels),
        monai.DiceLoss(softmax=True, to_onehot_y=True, **theirs)(classes, labels),
    )


def test_dice_of_soft_targets_is_that_of_monai(monai):
    """Soft targets are MONAI's with `soft_label=True`, which is not its default."""
    pred, target = draw()
    target = target * 0.75 + 0.125
    theirs = monai.DiceLoss(sigmoid=True, soft_label=True, smooth_nr=1.0, smooth_dr=1.0)

    torch.testing.assert_close(DiceLoss(mode="multilabel", smooth=1)(pred, target), theirs(pred, target))


def test_ignored_voxels_are_those_of_monai(monai):
    """Dice and Tversky leave the same voxels out."""
    pred, labels = draw(labels=True)
    labels[:, :, :2] = VOID
    smooth = {"smooth_nr": 1e-5, "smooth_dr": 1e-5}
    theirs = {"softmax": True, "to_onehot_y": True, "ignore_index": VOID, **smooth}
    own = {"mode": "multiclass", "ignore_index": VOID, **smooth}

    torch.testing.assert_close(DiceLoss(**own)(pred, labels), monai.DiceLoss(**theirs)(pred, labels))
    torch.testing.assert_close(
        TverskyLoss(alpha=0.2, beta=0.6, **own)(pred, labels),
        monai.TverskyLoss(alpha=0.2, beta=0.6, **theirs)(pred, labels),
    )


def test_class_weights_are_those_of_monai_but_for_their_sum(monai):
    """MONAI divides by the number of classes, which is right where the weights add up to it."""
    pred, labels = draw(labels=True)
    weights = [0.5, 1.0, 1.5]
    theirs = monai.DiceLoss(softmax=True, to_onehot_y=True, weight=weights, smooth_nr=1e-6, smooth_dr=1e-6)
    loss = DiceLoss(mode="multiclass", class_weights=weights)

    torch.testing.assert_close(loss(pred, labels), theirs(pred, labels))


@pytest.mark.parametrize("batch", [True, False])
def test_tversky_is_that_of_monai(monai, batch):
    """Both call the price of false positives alpha."""
    pred, target = draw()
    theirs = monai.TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, batch=batch, smooth_nr=0.5, smooth_dr=0.5)

    torch.testing.assert_close(
        TverskyLoss(mode="multilabel", smooth=0.5, batch=batch)(pred, target), theirs(pred, target)
    )


@pytest.mark.parametrize("volume_weights", ["square", "simple", "uniform"])
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("absent", [True, False])
def test_generalised_dice_is_that_of_monai(monai, volume_weights, batch, absent):
    """Without smooth, where the size of weights does not matter, also with a class that is absent."""
    pred, labels = draw(labels=True)
    labels = torch.where(labels == 1, 0, labels) if absent else labels
    theirs = monai.GeneralizedDiceLoss(
        softmax=True, to_onehot_y=True, w_type=volume_weights, batch=batch, smooth_nr=0, smooth_dr=0
    )
    loss = GeneralizedDiceLoss(mode="multiclass", volume_weights=volume_weights, batch=batch, smooth=0)

    torch.testing.assert_close(loss(pred, labels), theirs(pred, labels), rtol=1e-6, atol=0)


def test_combinations_are_those_of_monai(monai):
    """`DiceCELoss` is Dice and cross entropy, or with one channel Dice and BCE."""
    smooth = {"smooth_nr": 1e-6, "smooth_dr": 1e-6}
    pred, labels = draw(labels=True)
    both = DiceLoss(mode="multiclass")(pred, labels) + CrossEntropyLoss()(pred, labels)

    torch.testing.assert_close(both, monai.DiceCELoss(softmax=True, to_onehot_y=True, **smooth)(pred, labels))

    pred, target = draw(classes=1)
    both = DiceLoss()(pred, target) + BCELoss()(pred, target)

    torch.testing.assert_close(both, monai.DiceCELoss(sigmoid=True, **smooth)(pred, target))


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_focal_is_that_of_monai(monai, gamma):
    """Voxel by voxel, sigmoid with and without alpha and softmax without; MONAI computes in float32."""
    pred, target = draw()
    classes, labels = draw(labels=True)

    for alpha in (None, 0.25):
        torch.testing.assert_close(
            BCELoss(mode="multilabel", gamma=gamma, alpha=alpha, reduction="none")(pred, target).float(),
            monai.FocalLoss(gamma=gamma, alpha=alpha, reduction="none")(pred, target),
        )
    theirs = monai.FocalLoss(gamma=gamma, use_softmax=True, to_onehot_y=True, reduction="none")(classes, labels)

    torch.testing.assert_close(CrossEntropyLoss(gamma=gamma, reduction="none")(classes, labels).float(), theirs.sum(1))


# precision -----------------------------------------------------------------------------------------------------------


@given(case=cases(dtype=torch.float32), data=st.data())
def test_float32_is_as_good_as_its_inputs(case, data):
    """In float32 every loss is within 1e-6 of the float64 value."""
    dice = {
        "smooth": data.draw(st.sampled_from([1e-6, 0.5, 1.0])),
        "jaccard": data.draw(st.booleans()),
        "squared_pred": data.draw(st.booleans()),
        "empty": data.draw(st.sampled_from(["volume", "formula", "skip"])),
    }
    losses = (
        DiceLoss(**dice, mode="multilabel"),
        BCELoss(gamma=2, alpha=0.25, mode="multilabel"),
        TverskyLoss(mode="multilabel"),
        LovaszLoss(mode="multilabel"),
        GeneralizedDiceLoss(mode="multilabel"),
    )
    for loss in losses:
        expected = loss(case.pred.double(), case.target.double(), **case.what_counts)

        assert expected.item() == pytest.approx(loss(case.pred, case.target, **case.what_counts).item(), abs=1e-6)


@given(case=cases(dtype=torch.float32, labels=True))
def test_float32_is_as_good_as_its_inputs_over_classes(case):
    """With a softmax too."""
    for loss in (
        DiceLoss(mode="multiclass"),
        CrossEntropyLoss(),
        CrossEntropyLoss(gamma=2),
        LovaszLoss(mode="multiclass"),
    ):
        expected = loss(case.pred.double(), case.target, **case.what_counts)
        found = loss(case.pred, case.target, **case.what_counts)

        assert expected.item() == pytest.approx(found.item(), rel=1e-6, abs=1e-6)
