"""Mistakes that losses are known to make, and that these do not."""

import pytest
import torch

from mlc_losses import BCELoss, CombinedLoss, DiceLoss, LossInputError, LossManager
from mlc_losses.cross_entropy import CrossEntropyLoss
from mlc_losses.generalized import GeneralizedDiceLoss
from mlc_losses.lovasz import LovaszLoss
from mlc_losses.summation import paths
from mlc_losses.tversky import TverskyLoss

MULTICLASS = [
    CrossEntropyLoss(),
    CrossEntropyLoss(gamma=2.0, class_weights=[1.0, 2.0, 0.5]),
    DiceLoss(mode="multiclass"),
    DiceLoss(mode="multiclass", batch=True, empty="skip", squared_pred=True),
    GeneralizedDiceLoss(mode="multiclass"),
    LovaszLoss(mode="multiclass"),
    TverskyLoss(mode="multiclass", gamma=0.75),
    CombinedLoss({"dice": DiceLoss(mode="multiclass"), "ce": CrossEntropyLoss()}, {"dice": 1.0, "ce": 1.0}),
]


def gradient(loss, pred, target, **options):
    """Return the derivative of the loss with respect to the prediction."""
    leaf = pred.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf, target, **options), leaf)
    return found


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("target_dtype", [torch.float32, torch.bool, torch.float16])
def test_half_precision_volumes_do_not_overflow(dtype, target_dtype):
    """The Dice of a million half-precision voxels is that of float64, and it has a gradient."""
    pred = torch.linspace(-4, 4, 96**3).view(1, 1, 96, 96, 96).to(dtype)
    target = pred > 1
    loss = DiceLoss(squared_pred=True)
    value = loss(pred, target.to(target_dtype))

    assert value.dtype == torch.float32
    assert loss(pred.double(), target).item() == pytest.approx(value.item(), rel=1e-5)
    assert torch.isfinite(gradient(loss, pred, target)).all()
    assert gradient(loss, pred, target).abs().sum() > 0


@pytest.mark.parametrize("loss", [DiceLoss(), BCELoss(), BCELoss(gamma=2.0, alpha=0.25)])
@pytest.mark.parametrize("float64", ["pred", "target"])
def test_float64_is_never_narrowed(loss, float64):
    """Where either tensor is float64, so is the sum."""
    pred, target = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
    pred, target = (pred.double(), target) if float64 == "pred" else (pred, target.double())

    assert loss(pred, target).dtype == torch.float64


def test_false_positives_on_an_empty_mask_teach():
    """By default each voxel's gradient on an empty mask is that of mean(p), whatever smooth is."""
    pred, target = torch.full((1, 1, 8, 8), 1.0), torch.zeros(1, 1, 8, 8)
    p = torch.sigmoid(torch.tensor(1.0))

    torch.testing.assert_close(DiceLoss()(pred, target), p)
    torch.testing.assert_close(gradient(DiceLoss(), pred, target), torch.full_like(pred, (p * (1 - p) / 64).item()))


def test_empties_by_formula_have_the_documented_gradient():
    """With empty='formula' the gradient in p is s / (Σp + s)²."""
    p, target, s = torch.full((1, 1, 1000), 0.5, dtype=torch.float64), torch.zeros(1, 1, 1000), 1e-6
    loss = DiceLoss(smooth=s, empty="formula", from_logits=False)

    torch.testing.assert_close(gradient(loss, p, target), torch.full_like(p, s / (500 + s) ** 2))


def test_skipped_empties_leave_the_mean():
    """With empty='skip' only samples with foreground count, and all-empty is 0 with a graph."""
    pred = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(1))
    target = torch.zeros(2, 1, 6)
    loss = DiceLoss(empty="skip")

    assert loss(pred, target).item() == 0
    assert not gradient(loss, pred, target).any()

    target[0, 0, :3] = 1

    torch.testing.assert_close(loss(pred, target), loss(pred[:1], target[:1]))


@pytest.mark.parametrize("empty", ["volume", "skip"])
def test_nothing_predicted_on_an_empty_mask_is_right(empty):
    """Neither 0/0 nor 1: no foreground where there is none costs nothing, and the gradient is finite."""
    p, target = torch.zeros(1, 1, 9), torch.zeros(1, 1, 9)
    loss = DiceLoss(smooth=0, empty=empty, from_logits=False)

    assert loss(p, target).item() == 0
    assert torch.isfinite(gradient(loss, p, target)).all()


def test_half_ignored_mean_is_over_the_other_half():
    """The mean divides by what counts, not by all."""
    pred, target = torch.zeros(1, 1, 8), torch.ones(1, 1, 8)
    mask = torch.arange(8).view(1, 1, 8) < 4

    torch.testing.assert_close(BCELoss()(pred, target, mask=mask), BCELoss()(pred, target))


@pytest.mark.parametrize("mode", ["binary", "multilabel"])
def test_mask_of_one_channel_counts_every_channel(mode):
    """A one-channel mask over three channels does not make the mean three times as large."""
    channels = 1 if mode == "binary" else 3
    pred, target = torch.zeros(2, channels, 8), torch.ones(2, channels, 8)
    loss = BCELoss(gamma=2, mode=mode)

    assert torch.equal(loss(pred, target), loss(pred, target, mask=torch.ones(2, 1, 8, dtype=torch.bool)))


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [30.0, 100.0, 1e4])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal_gradient_is_finite_at_saturated_logits(gamma, size, alpha):
    """No gamma makes 0 to a negative power, right or wrong."""
    pred = torch.tensor([[[-size, size, -size, size]]])
    target = torch.tensor([[[0.0, 1, 1, 0]]])
    found = gradient(BCELoss(gamma=gamma, alpha=alpha), pred, target)

    assert torch.isfinite(found).all()
    assert (found[..., 2:].abs() > 0.01).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_saturated_probabilities_stay_finite(gamma, dtype):
    """Probabilities of exactly 0 and 1 on the wrong side give a finite loss and gradient."""
    p, target = torch.tensor([[[0.0, 1, 0, 1]]], dtype=dtype), torch.tensor([[[0.0, 1, 1, 0]]])
    loss = BCELoss(gamma=gamma, from_logits=False)

    assert torch.isfinite(loss(p, target))
    assert torch.isfinite(gradient(loss, p, target)).all()


def test_saturation_of_probabilities_is_where_the_docs_say():
    """In float32 a wrong certainty costs 15.9."""
    value = BCELoss(from_logits=False)(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))

    assert value.item() == pytest.approx(15.9, abs=0.05)


@pytest.mark.parametrize("from_logits", [True, False])
def test_gradient_does_not_depend_on_the_masks_dtype(from_logits):
    """Also where p has reached 0 or 1 the gradient of overlap is that of p·t, for float masks as for bool ones."""
    p = torch.tensor([[[0.0, 1, 0, 1, 0.5, 0.5]]])
    pred = torch.logit(p, eps=1e-6) if from_logits else p
    target = torch.tensor([[[0.0, 1, 1, 0, 0, 1]]])
    loss = DiceLoss(from_logits=from_logits)

    assert torch.equal(gradient(loss, pred, target), gradient(loss, pred, target.bool()))


@pytest.mark.parametrize("loss", [DiceLoss(), DiceLoss(empty="skip", batch=True), BCELoss(), BCELoss(gamma=2)])
def test_no_samples_is_zero_with_a_graph(loss):
    """The last batch of a filtered loader may be empty."""
    pred = torch.zeros(0, 1, 4, 4, requires_grad=True)
    value = loss(pred, torch.zeros(0, 1, 4, 4))
    value.backward()

    assert value.item() == 0
    assert pred.grad.shape == pred.shape


@pytest.mark.parametrize("loss", [DiceLoss(), DiceLoss(smooth=0, squared_pred=True), BCELoss(), BCELoss(gamma=0.5)])
def test_no_nan_on_the_way(loss):
    """Not even an intermediate gradient is NaN, so anomaly detection finds only the user's own mistakes."""
    pred, target = torch.full((2, 1, 4), 200.0), torch.zeros(2, 1, 4)
    mask = torch.tensor([[[False] * 4], [[True] * 4]])

    with torch.autograd.set_detect_anomaly(mode=True):
        assert torch.isfinite(gradient(loss, pred, target, mask=mask)).all()


@pytest.mark.parametrize("loss", MULTICLASS)
@pytest.mark.parametrize("size", [30.0, 100.0, 1e4])
def test_extreme_logits_over_classes(loss, size):
    """Certainty, right and wrong, has a finite loss and gradient; and the wrong kind costs more."""
    labels = torch.arange(12).remainder(3).view(1, 12)
    right = (torch.nn.functional.one_hot(labels, 3).movedim(-1, 1) * 2 - 1) * size

    assert loss(right, labels) < loss(-right, labels)
    for pred in (right, -right, right * torch.tensor([1.0, 0.1, -0.5]).view(1, 3, 1)):
        assert torch.isfinite(loss(pred, labels))
        assert torch.isfinite(gradient(loss, pred, labels)).all()


@pytest.mark.parametrize("loss", MULTICLASS)
def test_impossible_classes_over_classes(loss):
    """A logit of minus infinity for a class that is not there is a probability of 0, and no NaN."""
    pred = torch.tensor([[[0.0, 1.0], [2.0, 0.5], [-float("inf"), -float("inf")]]])

    assert torch.isfinite(loss(pred, torch.tensor([[0, 1]])))


@pytest.mark.parametrize("loss", MULTICLASS)
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0)])
def test_nothing_at_all_is_zero_with_a_graph(loss, shape):
    """Neither an empty batch nor an image without voxels stops a training."""
    pred = torch.zeros(shape, requires_grad=True)
    value = loss(pred, torch.zeros(shape[0], *shape[2:], dtype=torch.long))
    value.backward()

    assert value.item() == 0
    assert pred.grad.shape == pred.shape


@pytest.mark.parametrize("loss", MULTICLASS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_over_classes(loss, dtype):
    """Logits of 512 x 512 halves have the loss of the same numbers in float64, and gradients of their own dtype."""
    pred = (3 * torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(4))).to(dtype)
    labels = torch.randint(0, 3, (1, 512, 512), generator=torch.Generator().manual_seed(5))

    assert loss(pred.double(), labels).item() == pytest.approx(loss(pred, labels).item(), rel=1e-5)
    assert gradient(loss, pred, labels).dtype == dtype


def test_half_precision_and_float32_targets():
    """The dtype of the target makes no difference to what half precision logits cost."""
    pred = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(4)).half()
    target = (pred > 0.5).float()

    for loss in (DiceLoss(), TverskyLoss(), LovaszLoss(), BCELoss(), BCELoss(gamma=2.0, alpha=0.25)):
        assert torch.equal(loss(pred, target), loss(pred, target.half()))
        assert torch.equal(gradient(loss, pred, target), gradient(loss, pred, target.bool()))


@pytest.mark.parametrize("loss", MULTICLASS)
def test_memory_format_does_not_matter_over_classes(loss):
    """Channels last, as convolutions like them, give the value and the gradient of channels first."""
    pred = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(4))
    labels = torch.randint(0, 3, (2, 8, 6), generator=torch.Generator().manual_seed(5))
    last = pred.contiguous(memory_format=torch.channels_last)

    torch.testing.assert_close(loss(last, labels), loss(pred, labels))
    torch.testing.assert_close(gradient(loss, last, labels), gradient(loss, pred, labels))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_autocast_changes_nothing(reduction):
    """Inside autocast the sums still run in float32."""
    pred = torch.randn(2, 1, 300, 300, generator=torch.Generator().manual_seed(3)).bfloat16()
    target = pred > 0.5
    kinds = [
        DiceLoss,
        BCELoss,
        LovaszLoss,
        TverskyLoss,
        lambda **options: BCELoss(gamma=2, alpha=0.25, **options),
        lambda **options: DiceLoss(from_logits=False, **options),
        lambda **options: BCELoss(from_logits=False, **options),
    ]

    for kind in kinds:
        loss = kind(reduction=reduction)
        given = pred if loss.from_logits else torch.sigmoid(pred)
        expected = loss(given, target)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(expected, loss(given, target))


@pytest.mark.parametrize("loss", MULTICLASS)
def test_autocast_changes_nothing_over_classes(loss):
    """Nor does it with a softmax, in the value or in the gradient."""
    pred = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3)).bfloat16()
    labels = torch.randint(0, 3, (1, 64, 64), generator=torch.Generator().manual_seed(5))
    expected, slope = loss(pred, labels), gradient(loss, pred, labels)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(expected, loss(pred, labels))
        assert torch.equal(slope, gradient(loss, pred, labels))


def test_second_derivatives_are_right():
    """Gradients of gradients agree with finite differences."""
    pred = torch.tensor([[[-1.0, 0.3, 2]]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[[0.0, 1, 1]]], dtype=torch.float64)

    for loss in (DiceLoss(squared_pred=True), BCELoss(), BCELoss(gamma=2, alpha=0.25)):
        assert torch.autograd.gradgradcheck(lambda one, loss=loss: loss(one, target), [pred])


def test_the_callers_dictionaries_stay_as_they_are():
    """Making a loss writes nothing into its configuration."""
    config = {"type": "combined", "dice_weight": 0.7, "bce_weight": 0.3, "dice_config": {"jaccard": True}}
    before = {**config, "dice_config": dict(config["dice_config"])}
    LossManager.create_loss_function(config)

    assert before == config


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dice", {"smooth": 1}),
        ("dice", {"jaccard": True}),
        ("dice", {"squared_pred": True}),
        ("dice", {"batch": True}),
        ("dice", {"empty": "skip"}),
        ("dice", {"empty": "formula"}),
        ("dice", {"from_logits": False}),
        ("dice", {"reduction": "sum"}),
        ("bce", {"gamma": 1}),
        ("bce", {"alpha": 0.5}),
        ("bce", {"label_smoothing": 0.1}),
        ("bce", {"from_logits": False}),
        ("bce", {"reduction": "sum"}),
        ("dice", {"log": True}),
        ("dice", {"smooth_nr": 1}),
        ("dice", {"smooth_dr": 1}),
        ("dice", {"label_smoothing": 0.1}),
        ("dice", {"ignore_index": 1}),
        ("bce", {"alpha": "balanced"}),
        ("bce", {"ignore_index": 1}),
        ("tversky", {"alpha": 0.5}),
        ("tversky", {"beta": 0.5}),
        ("tversky", {"gamma": 0.5}),
        ("tversky", {"batch": True}),
        ("lovasz", {"batch": True}),
        ("lovasz", {"empty": "formula"}),
        ("lovasz", {"empty": "skip"}),
        ("lovasz", {"from_logits": False}),
        ("lovasz", {"reduction": "sum"}),
    ],
)
def test_every_option_has_an_effect(name, options):
    """No option is accepted and left unused."""
    pred = torch.rand(2, 1, 6, generator=torch.Generator().manual_seed(3))
    target = torch.tensor([[[1.0, 0, 1, 0, 0, 0]], [[0.0, 0, 0, 0, 0, 0]]])
    make = LossManager.create_loss_function

    assert make({"type": name, **options})(pred, target) != make({"type": name})(pred, target)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dice", {"include_background": False}),
        ("dice", {"class_weights": [1, 2, 3]}),
        ("dice", {"ignore_index": 0}),
        ("cross_entropy", {"class_weights": [1, 2, 3]}),
        ("cross_entropy", {"gamma": 1}),
        ("cross_entropy", {"label_smoothing": 0.1}),
        ("cross_entropy", {"ignore_index": 2}),
        ("cross_entropy", {"reduction": "sum"}),
        ("generalized_dice", {"volume_weights": "simple"}),
        ("generalized_dice", {"volume_weights": "uniform"}),
        ("generalized_dice", {"include_background": False}),
        ("generalized_dice", {"class_weights": [1, 2, 3]}),
        ("generalized_dice", {"smooth": 1}),
        ("lovasz", {"include_background": False}),
        ("lovasz", {"class_weights": [1, 2, 3]}),
        ("tversky", {"include_background": False}),
    ],
)
def test_every_option_has_an_effect_over_classes(name, options):
    """None is left unused with a softmax either."""
    pred = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([[0, 1, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1]])
    make = LossManager.create_loss_function

    plain = make({"type": name, "mode": "multiclass"})

    assert make({"type": name, "mode": "multiclass", **options})(pred, labels) != plain(pred, labels)


def test_check_inputs_has_an_effect():
    """Values are checked unless that is turned off."""
    pred, target = torch.zeros(1, 1, 4), torch.full((1, 1, 4), 255)
    parts = {"dice": DiceLoss(), "bce": BCELoss()}, {"dice": 1.0, "bce": 1.0}

    for loss in (DiceLoss(), BCELoss(), CombinedLoss(*parts)):
        with pytest.raises(LossInputError):
            loss(pred, target)
    for loss in (DiceLoss(check_inputs=False), BCELoss(check_inputs=False), CombinedLoss(*parts, check_inputs=False)):
        assert torch.isfinite(loss(pred, target))


@pytest.mark.parametrize("logit", [-16.0, -14.0, -12.0, -9.0, 9.0, 12.0, 16.0])
def test_easy_voxels_cost_the_same_on_every_path(logit):
    """What an easy voxel costs keeps its digits in float32, with a map of weights and without, and voxel by voxel."""
    pred = torch.full((1, 1, 1000), logit)
    target = torch.full((1, 1, 1000), float(logit > 0))
    expected = BCELoss()(pred.double(), target).float()

    torch.testing.assert_close(BCELoss()(pred, target), expected, rtol=2e-6, atol=0)
    torch.testing.assert_close(BCELoss()(pred, target, weight=torch.ones_like(pred)), expected, rtol=2e-6, atol=0)
    torch.testing.assert_close(BCELoss(reduction="none")(pred, target)[0, 0, 0], expected, rtol=2e-6, atol=0)


def test_transforms_of_functions_work():
    """`torch.func.grad` gives what `backward` gives."""
    pred, target = torch.randn(2, 1, 6, dtype=torch.float64), torch.ones(2, 1, 6)
    loss = DiceLoss(check_inputs=False)
    leaf = pred.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf, target), leaf)

    torch.testing.assert_close(expected, torch.func.grad(lambda one: loss(one, target))(pred))


def test_nothing_stays_after_the_gradient(monkeypatch):
    """A value that is kept for a log does not keep the buffers that made it."""
    made = []
    choose = paths.choose_kernel
    monkeypatch.setattr(paths, "choose_kernel", lambda *given: made.append(choose(*given)) or made[-1])
    pred = torch.randn(2, 1, 64, requires_grad=True)
    value = DiceLoss()(pred, torch.ones(2, 1, 64))
    value.backward()

    assert {} == made[0].scratch._buffers


@pytest.mark.parametrize("run", ["eager", "weighted", "compiled"])
@pytest.mark.parametrize("label", [3, 256, -100])
@pytest.mark.parametrize("name", ["cross_entropy", "focal_cross_entropy", "dice", "lovasz"])
def test_unchecked_labels_of_no_class_are_of_no_class(name, label, run):
    """Where nobody checks, a label out of range is no class, by each way: no class has it, and its voxel is there."""
    loss = LossManager.create_loss_function({"type": name, "mode": "multiclass", "check_inputs": False})
    pred = torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([[0, 1, 2, label, 1, label]])
    classes = torch.arange(3).view(1, 3, 1) == target.unsqueeze(1)
    ours, theirs = (pred.clone().requires_grad_() for _ in range(2))
    torch.compiler.reset()
    call = torch.compile(loss, fullgraph=True, backend="aot_eager") if run == "compiled" else loss
    found = call(ours, target, **({"weight": torch.ones(1, 1, 6)} if run == "weighted" else {}))
    expected = loss(theirs, classes.float())
    found.backward()
    expected.backward()

    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("label", [-1, -100])
def test_small_signed_labels_do_not_wrap(label):
    """A negative label in one byte is no class either, of however many."""
    loss = LossManager.create_loss_function({"type": "cross_entropy", "check_inputs": False})

    assert loss(torch.randn(1, 255, 4), torch.full((1, 4), label, dtype=torch.int8)) == 0


@pytest.mark.parametrize("way", [{}, {"weight": torch.ones(1, 1, 3)}])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("compiled", [False, True])
def test_infinite_logits_that_are_right_cost_nothing(compiled, gamma, way):
    """A logit of plus or minus infinity on the right side has a cost and a gradient of 0; on the wrong one infinity."""
    torch.compiler.reset()
    loss = BCELoss(gamma=gamma)
    call = torch.compile(loss, fullgraph=True, backend="aot_eager") if compiled else loss
    pred = torch.tensor([[[torch.inf, -torch.inf, 0.3]]], requires_grad=True)
    target = torch.tensor([[[1.0, 0.0, 1.0]]])
    value = call(pred, target, **way)
    value.backward()

    torch.testing.assert_close(value, loss(pred[..., 2:].detach(), target[..., 2:]) / 3)
    assert pred.grad[0, 0, :2].tolist() == [0, 0]
    assert call(pred.detach(), 1 - target, **way) == torch.inf
