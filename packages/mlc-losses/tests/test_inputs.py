"""Tensors that would give a wrong number are refused, with the way out."""

import re

import pytest
import torch

from mlc_losses import BCELoss, CombinedLoss, CrossEntropyLoss, DiceLoss, LossInputError, LovaszLoss

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
        (make(2, 1, 8), make(2, 1, 8).requires_grad_(), None, "pass target.detach()"),
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


CLASSES = [
    DiceLoss(mode="multiclass"),
    LovaszLoss(mode="multiclass"),
    CrossEntropyLoss(),
    CombinedLoss({"dice": DiceLoss(mode="multiclass"), "ce": CrossEntropyLoss()}, {"dice": 0.7, "ce": 0.3}),
]
EACH_OF_CLASSES = pytest.mark.parametrize("loss", CLASSES, ids=lambda loss: type(loss).__name__)


@EACH_OF_CLASSES
@pytest.mark.parametrize(
    ("pred", "target", "says"),
    [
        (make(2, 1, 8), make(2, 8, dtype=torch.int64), "a softmax over one channel is 1 everywhere"),
        (make(2, 3, 8, 8), make(2, 8), "target is (2, 8) but pred is (2, 3, 8, 8); give class numbers (2, 8, 8)"),
        (make(2, 3, 8, 8), make(2, 2, 8, 8), "or probabilities as pred"),
        (make(2, 3, 8), make(2, 8), "class numbers are integers: pass target.long()"),
        (make(2, 3, 8), make(2, 1, 8, dtype=torch.bool), "class numbers are integers"),
    ],
)
def test_form_of_class_numbers(loss, pred, target, says):
    """Class numbers have a form of their own."""
    with pytest.raises(LossInputError, match=re.escape(says)):
        loss(pred, target)


@EACH_OF_CLASSES
@pytest.mark.parametrize(
    ("target", "says"),
    [
        (torch.tensor([[0, 3]]), "class numbers from 0 to 3, but pred has channels 0 to 2; pass ignore_index"),
        (torch.tensor([[0, 255]], dtype=torch.uint8), "pass ignore_index=255"),
        (torch.tensor([[-1, 1]]), "from -1 to 1"),
        (torch.tensor([[[0.5, 1], [0, 0], [0, 0]]]), "the channels of target add up to 0.5 to 1 in a voxel"),
        (torch.tensor([[[1, 1], [1, 0], [0, 0]]]), "the channels of target add up to 1 to 2 in a voxel"),
    ],
)
def test_classes_are_those_of_the_prediction(loss, target, says):
    """A label out of range is named with the way out, and a voxel has one class."""
    with pytest.raises(LossInputError, match=re.escape(says)):
        loss(make(1, 3, 2), target)


@EACH_OF_CLASSES
def test_target_may_be_numbers_or_one_hot(loss):
    """Class numbers with and without a channel axis, of every integer dtype, and one-hot masks are the same target."""
    pred, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    one_hot = torch.nn.functional.one_hot(target, 3).movedim(-1, 1)
    expected = loss(pred, target)

    for same in (target.unsqueeze(1), target.to(torch.uint8), target.int()):
        assert torch.equal(expected, loss(pred, same))
    for same in (one_hot, one_hot.bool(), one_hot.float()):
        torch.testing.assert_close(expected, loss(pred, same))


@EACH_OF_CLASSES
def test_masks_of_classes_have_one_channel(loss):
    """A voxel counts in all its channels or in none, so a mask looks like class numbers or has one channel."""
    pred, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    mask = torch.rand(2, 4, 5) > 0.5

    assert torch.equal(loss(pred, target, mask=mask), loss(pred, target, mask=mask.unsqueeze(1)))
    with pytest.raises(LossInputError, match=re.escape("mask is (2, 3, 4, 5); give (2, 1, 4, 5) or (2, 4, 5)")):
        loss(pred, target, mask=mask.unsqueeze(1).expand(2, 3, 4, 5))


@pytest.mark.parametrize(
    ("weight", "says"),
    [
        (make(2, 4), "weight is (2, 4); .*unsqueeze(1)"),
        (make(2, 1, 4, dtype=torch.int64), "weight is torch.int64; give floats"),
        (make(2, 1, 4).requires_grad_(), "pass weight.detach()"),
        (make(2, 1, 4, value=-1.0), "weight runs from -1 to -1"),
        (make(2, 1, 4, value=float("nan")), "weight runs from nan"),
        (make(2, 1, 4, value=float("inf")), "weight runs from inf"),
        (make(2, 1, 4).to("meta"), "weight is on meta"),
    ],
)
def test_weights_are_numbers_of_at_least_0(weight, says):
    """A map of weights that cannot be one is refused."""
    with pytest.raises(LossInputError, match=re.escape(says).replace(r"\.\*", ".*")):
        DiceLoss()(make(2, 1, 4), make(2, 1, 4), weight=weight)


def test_weights_are_looked_at_where_they_count():
    """Where the mask leaves a voxel out its weight may be anything."""
    weight = torch.tensor([[[1.0, float("nan")]]])
    mask = torch.tensor([[[True, False]]])

    assert torch.isfinite(DiceLoss()(make(1, 1, 2), make(1, 1, 2), mask=mask, weight=weight))


@pytest.mark.parametrize("loss", [*LOSSES, *CLASSES], ids=lambda loss: f"{type(loss).__name__} {loss.mode}")
def test_probabilities_are_not_logits(loss):
    """A prediction that went through its activation already is found out, and let through where that is wanted."""
    channels = 3 if loss.mode == "multiclass" else 1
    logits = 4 * torch.randn(2, channels, 32, 32)
    pred = logits.softmax(1) if channels == 3 else logits.sigmoid()
    target = torch.randint(0, 2, (2, 32, 32)) if channels == 3 else torch.ones(2, 1, 32, 32)

    with pytest.raises(LossInputError, match="as probabilities do, but is read as logits; pass from_logits=False"):
        loss(pred, target)
    for fine in (logits, torch.zeros_like(logits), logits * 1e-3, 0.3 + logits * 1e-2, logits.sigmoid() * 0.9):
        assert torch.isfinite(loss(fine, target))
    loss.check_inputs = False
    try:
        assert torch.isfinite(loss(pred, target))
    finally:
        loss.check_inputs = True


def test_few_probabilities_of_classes_are_enough():
    """Channels that add up to 1 in 8 voxels are a softmax, and what nobody counts or fewer voxels say nothing."""
    torch.manual_seed(3)
    loss, target = CrossEntropyLoss(), torch.zeros(1, 8, dtype=torch.int64)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        pred = torch.randn(1, 3, 8, dtype=dtype).softmax(1)

        with pytest.raises(LossInputError, match=r"add up to 1 in every voxel, .*check_inputs=False"):
            loss(pred, target)
        assert torch.isfinite(loss(pred, target, mask=torch.zeros(1, 1, 8, dtype=torch.bool)))
        assert torch.isfinite(loss(pred[..., :7], target[..., :7]))


@EACH
def test_eighths_are_refused(loss):
    """A prediction in a dtype in which torch does not compute is told so, in place of a missing kernel."""
    with pytest.raises(LossInputError, match=r"pred is torch.float8_e4m3fn, .*pass pred.float\(\)"):
        loss(make(1, 1, 2).to(torch.float8_e4m3fn), make(1, 1, 2))


def test_grey_masks_are_offered_a_threshold():
    """A mask of 0 and 128 is told how to become one."""
    with pytest.raises(LossInputError, match=r"target > 0 if it is a mask of 0 and 128"):
        BCELoss()(make(1, 1, 2), torch.tensor([[[0, 128]]], dtype=torch.uint8))


def test_probabilities_add_up():
    """Of classes, probabilities add up to 1 in every voxel."""
    loss = CrossEntropyLoss(from_logits=False)

    assert torch.isfinite(loss(make(1, 4, 2, value=0.25), make(1, 2, dtype=torch.int64)))
    with pytest.raises(LossInputError, match="the channels of pred add up to 3 to 3"):
        loss(make(1, 4, 2, value=0.75), make(1, 2, dtype=torch.int64))


def test_ignored_classes_are_no_bad_label():
    """The label of what nobody labelled may stand anywhere, and no other one."""
    loss = DiceLoss(mode="multiclass", ignore_index=255)

    assert torch.isfinite(loss(make(1, 3, 3), torch.tensor([[0, 2, 255]])))
    with pytest.raises(LossInputError, match=r"from 0 to 254, .*one channel for each class"):
        loss(make(1, 3, 3), torch.tensor([[0, 254, 255]]))


def test_class_weights_are_as_many_as_channels():
    """Weights for another number of classes are refused with both numbers."""
    with pytest.raises(LossInputError, match="pred has 3 channels, but there are 2 class_weights"):
        DiceLoss(mode="multiclass", class_weights=[1, 2])(make(1, 3, 2), make(1, 2, dtype=torch.int64))


def test_some_class_is_judged():
    """To leave out the background and ignore the only other class leaves nothing."""
    loss = DiceLoss(mode="multiclass", include_background=False, ignore_index=1)

    with pytest.raises(LossInputError, match="leave none to judge"):
        loss(make(1, 2, 2), make(1, 2, dtype=torch.int64))


def test_sets_have_no_fractions():
    """Lovász compares sets: a soft target is refused, where checks are on."""
    with pytest.raises(LossInputError, match=r"pass target > 0\.5"):
        LovaszLoss()(make(1, 1, 2), torch.tensor([[[0.5, 1.0]]]))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_masks_of_16_and_32_bits(dtype):
    """Image files hold masks in dtypes that torch hardly computes with; they are checked as all others are."""
    labels = torch.tensor([[0, 1, 2]])

    assert torch.equal(CrossEntropyLoss()(make(1, 3, 3), labels.to(dtype)), CrossEntropyLoss()(make(1, 3, 3), labels))
    with pytest.raises(LossInputError, match="from 0 to 2"):
        CrossEntropyLoss()(make(1, 2, 3), labels.to(dtype))


@pytest.mark.parametrize(
    ("pred", "target", "says"),
    [
        ([make(1, 1, 4), make(1, 1, 2)], make(1, 1, 4), "pred is a list of 2, not a tensor; .*deep_supervision=True"),
        (make(1, 1, 4).numpy(), make(1, 1, 4), "pred is a ndarray, not a torch.Tensor"),
        (make(1, 1, 4), None, "target is a NoneType"),
    ],
)
def test_tensors_are_tensors(pred, target, says):
    """Anything else is named, and a list of outputs is told where it goes."""
    with pytest.raises(LossInputError, match=says):
        DiceLoss()(pred, target)


def test_ignored_voxels_may_weigh_anything():
    """What the target says does not count needs no weight, as what the mask leaves out."""
    weight = torch.tensor([[[1.0, float("nan")]]])

    assert torch.isfinite(DiceLoss(ignore_index=255)(make(1, 1, 2), torch.tensor([[[1, 255]]]), weight=weight))


@pytest.mark.parametrize("weight", [torch.tensor([[[1e300]]], dtype=torch.float64), torch.tensor([[[3e38]]])])
def test_weights_stay_finite(weight):
    """A weight that float32 could not add up is refused rather than summed to NaN."""
    with pytest.raises(LossInputError, match="give numbers from 0 to 1e\\+12"):
        DiceLoss()(make(1, 1, 1), make(1, 1, 1), weight=weight)
