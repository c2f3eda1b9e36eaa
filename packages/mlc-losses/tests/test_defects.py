"""Defects that others have reported of their losses, or that are in their releases, and that these do not have."""

import copy
import io
from itertools import product

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlc_losses import BCELoss, CombinedLoss, DiceLoss, LossConfigError, LossInputError, LossManager
from mlc_losses.cross_entropy import CrossEntropyLoss
from mlc_losses.deep_supervision import DeepSupervisionLoss
from mlc_losses.generalized import GeneralizedDiceLoss
from mlc_losses.lovasz import LovaszLoss
from mlc_losses.tversky import TverskyLoss

MANY, CLASSES = {"mode": "multilabel"}, {"mode": "multiclass"}
REGIONS = [DiceLoss, TverskyLoss, GeneralizedDiceLoss, LovaszLoss]


def gradient(loss, pred, target, **what_counts):
    """Return the derivative of the loss with respect to the prediction."""
    leaf = pred.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf, target, **what_counts), leaf)
    return found


def draw(*shape, seed=0, dtype=torch.float32):
    """Return logits."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def draw_labels(*shape, classes=3, seed=1):
    """Return class numbers."""
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))


# sums in half precision -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("target_dtype", [torch.float16, torch.float32, torch.bool])
@pytest.mark.parametrize("loss", [DiceLoss(), DiceLoss(squared_pred=True), BCELoss(), TverskyLoss()], ids=range(4))
def test_sums_over_half_precision_do_not_overflow(loss, dtype, target_dtype):
    """Dice of 512 x 512 halves is neither NaN nor silently 1 without a gradient (smp #463, ultralytics PR #24554)."""
    pred = (draw(1, 1, 512, 512) + 2).to(dtype)
    target = (pred > 1.5).to(target_dtype)
    value, slope = loss(pred, target), gradient(loss, pred, target)

    assert value.item() == pytest.approx(loss(pred.double(), target.double()).item(), rel=1e-5)
    assert slope.dtype == dtype
    assert torch.isfinite(slope).all()
    assert slope.abs().sum() > 0


# what the mean divides by ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mean_with_ignored_voxels_is_that_of_torch(smoothing):
    """The mean divides by what counts, not by all voxels (smp #852, mmseg #546)."""
    pred, labels = draw(2, 3, 6), draw_labels(2, 6)
    labels[:, :3] = 255
    expected = functional.cross_entropy(pred, labels, ignore_index=255, label_smoothing=smoothing)

    torch.testing.assert_close(CrossEntropyLoss(ignore_index=255, label_smoothing=smoothing)(pred, labels), expected)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("kind", [BCELoss, CrossEntropyLoss])
def test_index_that_never_occurs_changes_nothing(kind, gamma):
    """A focal or cross entropy loss with an unused ignore_index is not C times as large (MONAI 1.6.1, nnU-Net)."""
    pred = draw(2, 3, 6)
    target = draw_labels(2, 6) if kind is CrossEntropyLoss else (draw(2, 3, 6, seed=5) > 0).long()
    options = {} if kind is CrossEntropyLoss else MANY

    torch.testing.assert_close(
        kind(gamma=gamma, ignore_index=255, **options)(pred, target), kind(gamma=gamma, **options)(pred, target)
    )


def test_softmax_focal_without_gamma_is_cross_entropy_not_a_third_of_it():
    """The mean is over voxels, not over voxels times classes (MONAI, kornia and toolbelt softmax focal)."""
    pred, labels = draw(2, 3, 6), draw_labels(2, 6)

    torch.testing.assert_close(CrossEntropyLoss(gamma=0.0)(pred, labels), functional.cross_entropy(pred, labels))
    torch.testing.assert_close(
        CrossEntropyLoss(gamma=1e-9)(pred, labels), functional.cross_entropy(pred, labels), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("loss", [CrossEntropyLoss(ignore_index=255), DiceLoss(ignore_index=255, **CLASSES)], ids=str)
def test_everything_ignored_is_zero_not_nan(loss):
    """A crop that nobody labelled costs 0 and goes on with a gradient of 0 (torch #70348, #75181, #116349)."""
    pred, labels = draw(2, 3, 6), torch.full((2, 6), 255)

    assert loss(pred, labels).item() == 0
    assert not gradient(loss, pred, labels).any()


def test_all_void_batch_of_lovasz_keeps_its_graph():
    """Neither a crash nor a loss without a graph where all is void (LovaszSoftmax #14, #28)."""
    pred, labels = draw(2, 3, 6), torch.full((2, 6), 255)

    for empty, batch in product(("volume", "formula", "skip"), (True, False)):
        loss = LovaszLoss(ignore_index=255, empty=empty, batch=batch, **CLASSES)

        assert loss(pred, labels).item() == 0
        assert not gradient(loss, pred, labels).any()


# ignoring -------------------------------------------------------------------------------------------------------------


def test_every_loss_and_every_combination_ignores():
    """An ignore_index has an effect, is no index into one-hot channels, and is in combinations (smp #323, PR #366)."""
    pred, labels = draw(2, 3, 6), draw_labels(2, 6)
    labels[0] = 255
    configs = [
        {"type": "dice", **CLASSES},
        {"type": "tversky", **CLASSES},
        {"type": "generalized_dice", **CLASSES},
        {"type": "lovasz", **CLASSES},
        {"type": "cross_entropy"},
        {"type": "focal_cross_entropy"},
        {"type": "combined", "dice_weight": 1.0, "cross_entropy_weight": 1.0, **CLASSES},
        {"type": "combined", "generalized_dice_weight": 1.0, "focal_cross_entropy_weight": 1.0, **CLASSES},
    ]  # MONAI #8734: GDL, DiceCE and DiceFocal have none

    for config in configs:
        loss = LossManager.create_loss_function({**config, "ignore_index": 255})

        torch.testing.assert_close(loss(pred, labels), LossManager.create_loss_function(config)(pred[1:], labels[1:]))


def test_ignored_class_stays_in_the_softmax():
    """Ignoring one of the model's own classes leaves its voxels out, as torch does and says (torch #63004)."""
    pred, labels = draw(2, 3, 6), draw_labels(2, 6)
    expected = functional.cross_entropy(pred, labels, ignore_index=0)

    torch.testing.assert_close(CrossEntropyLoss(ignore_index=0)(pred, labels), expected)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("how", ["mask", "weight", "ignore_index"])
def test_ignored_voxels_do_not_poison(poison, how):
    """NaN and infinity inside what is ignored reach neither value nor gradient (MONAI multiplies by its mask)."""
    pred, labels = draw(1, 3, 6), draw_labels(1, 6)
    bad = pred.clone()
    bad[..., :2] = poison
    counts = torch.arange(6).view(1, 1, 6) >= 2
    given = {"mask": {"mask": counts}, "weight": {"weight": counts.float()}, "ignore_index": {}}[how]
    labels[:, :2] = 255

    for kind in (CrossEntropyLoss, lambda **o: DiceLoss(**CLASSES, **o), lambda **o: LovaszLoss(**CLASSES, **o)):
        loss = kind(ignore_index=255) if how == "ignore_index" else kind()

        assert torch.isfinite(loss(bad, labels, **given))
        assert torch.isfinite(gradient(loss, bad, labels, **given)).all()
        assert not gradient(loss, bad, labels, **given)[..., :2].any()


# options that do what they say ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bce", "cross_entropy"])
def test_defaults_work(name):
    """A loss with its defaults, label smoothing among them, can be called (smp #372: None raised TypeError)."""
    pred = draw(2, 3, 6)
    options = {} if name == "cross_entropy" else MANY
    target = draw_labels(2, 6) if name == "cross_entropy" else (pred > 0).float()

    assert torch.isfinite(LossManager.create_loss_function({"type": name, **options})(pred, target))


def test_multiclass_focal_is_of_a_softmax():
    """Over classes focal is softmax focal, alone and in combinations (smp #671, MONAI #8242, #2610, #6500, #6510)."""
    pred, labels = draw(2, 3, 6), draw_labels(2, 6)
    log_p = functional.log_softmax(pred, 1).gather(1, labels.unsqueeze(1))
    expected = (-((1 - log_p.exp()) ** 2) * log_p).mean()
    loss = LossManager.create_loss_function(
        {"type": "combined", "focal_cross_entropy_weight": 1.0, "dice_weight": 0.0, **CLASSES}
    )

    torch.testing.assert_close(CrossEntropyLoss(gamma=2.0)(pred, labels), expected)
    torch.testing.assert_close(loss(pred, labels), expected)
    with pytest.raises(LossConfigError, match="multiclass"):
        BCELoss(**CLASSES)


def test_softmax_over_one_channel_is_refused():
    """One channel has no softmax, so its focal loss is not 0 (MONAI #2509)."""
    with pytest.raises(LossInputError, match="mode='binary'"):
        CrossEntropyLoss(gamma=2.0)(draw(1, 1, 4), torch.zeros(1, 1, 4))

    assert BCELoss(gamma=2.0)(draw(1, 1, 4), torch.zeros(1, 1, 4)) > 0


def test_focal_tversky_takes_the_power_of_each_class():
    """The exponent is taken before the mean over classes (smp #734, PR #737)."""
    pred, labels = draw(2, 3, 6), draw_labels(2, 6)
    each = TverskyLoss(reduction="none", **CLASSES)(pred, labels)

    torch.testing.assert_close(TverskyLoss(gamma=0.75, **CLASSES)(pred, labels), (each**0.75).mean())


def test_tversky_prices_are_not_swapped():
    """Alpha is for false positives and beta for false negatives, each by itself (keras #23322, Flux #1993, kornia)."""
    target = torch.tensor([[[1.0, 1, 1, 0, 0, 0]]])
    more, fewer = torch.tensor([[[1.0, 1, 1, 1, 1, 0]]]), torch.tensor([[[1.0, 0, 0, 0, 0, 0]]])
    dear_positives = TverskyLoss(alpha=0.9, beta=0.1, smooth=0, from_logits=False)
    dear_negatives = TverskyLoss(alpha=0.1, beta=0.9, smooth=0, from_logits=False)

    assert dear_positives(more, target).item() == pytest.approx(1 - 3 / (3 + 0.9 * 2))
    assert dear_positives(fewer, target).item() == pytest.approx(1 - 1 / (1 + 0.1 * 2))
    assert dear_negatives(more, target).item() == pytest.approx(1 - 3 / (3 + 0.1 * 2))
    assert dear_negatives(fewer, target).item() == pytest.approx(1 - 1 / (1 + 0.9 * 2))


def test_classes_cost_no_pass_each():
    """Softmax focal reads the prediction once, not once for each class (smp #1235: six times as slow)."""
    pred, labels = draw(1, 8, 32, 32).requires_grad_(), draw_labels(1, 32, 32, classes=8)

    def calls(loss):
        with torch.profiler.profile() as profile:
            loss(pred, labels).backward()
        return sum(one.count for one in profile.key_averages())

    assert calls(CrossEntropyLoss(gamma=2.0)) < 8 * calls(CrossEntropyLoss()) / 2


@pytest.mark.parametrize("mode", ["binary", "multilabel", "multiclass"])
def test_every_loss_reads_logits_or_probabilities(mode):
    """All losses have `from_logits`, and follow it (smp #1263; MONAI #8603 documents logits and applies nothing)."""
    channels = 1 if mode == "binary" else 3
    pred = draw(2, channels, 6)
    target = draw_labels(2, 6) if mode == "multiclass" else (draw(2, channels, 6, seed=4) > 0).float()
    p = torch.softmax(pred, 1) if mode == "multiclass" else torch.sigmoid(pred)

    for kind in (*REGIONS, CrossEntropyLoss if mode == "multiclass" else BCELoss):
        if kind is not GeneralizedDiceLoss or mode != "binary":
            torch.testing.assert_close(kind(mode=mode, from_logits=False)(p, target), kind(mode=mode)(pred, target))


def test_alpha_is_never_dropped():
    """Alpha holds with and without background, and what weighs classes has another name (MONAI #8117, #8601)."""
    pred, target = draw(2, 3, 6), (draw(2, 3, 6, seed=3) > 0).float()

    for include_background in (True, False):
        options = {"gamma": 2.0, "include_background": include_background, **MANY}

        assert BCELoss(alpha=0.9, **options)(pred, target) != BCELoss(**options)(pred, target)
    with pytest.raises(LossConfigError, match="alpha"):
        BCELoss(alpha=[0.1, 0.2, 0.7], **MANY)  # type: ignore[arg-type]
    with pytest.raises(LossConfigError, match="alpha"):
        LossManager.create_loss_function({"type": "focal_cross_entropy", "alpha": 0.25})


def test_alpha_weighs_both_sides():
    """Alpha weighs foreground, and 1 - alpha background, not alpha everything (kornia #875, PR #2393)."""
    pred = torch.zeros(1, 1, 1)
    loss = BCELoss(gamma=2.0, alpha=0.25)

    torch.testing.assert_close(3 * loss(pred, torch.ones(1, 1, 1)), loss(pred, torch.zeros(1, 1, 1)))


@pytest.mark.parametrize("weights", [[0.2, 0.3, 0.5], (1, 2, 3)])
def test_class_weights_are_the_same_in_all_halves(weights):
    """A list of one weight for each channel, background too, suits every loss over classes (MONAI #7729, #7065)."""
    pred, labels = draw(2, 3, 6), draw_labels(2, 6)
    parts = {"dice": DiceLoss(class_weights=weights, **CLASSES), "ce": CrossEntropyLoss(class_weights=weights)}
    both = CombinedLoss(parts, {"dice": 1.0, "ce": 1.0})(pred, labels)
    expected = functional.cross_entropy(pred, labels, weight=torch.tensor(weights, dtype=torch.float32))

    torch.testing.assert_close(both - parts["dice"](pred, labels), expected)


def test_weights_are_normalised():
    """Scaling all class weights scales nothing (MONAI divides by the number of classes)."""
    pred, labels = draw(2, 3, 6), draw_labels(2, 6)
    one, ten = (DiceLoss(class_weights=[factor, factor, factor], **CLASSES) for factor in (1, 10))

    torch.testing.assert_close(one(pred, labels), ten(pred, labels))


def test_label_smoothing_reaches_both_halves():
    """Smoothing said of a combination is that of each part, or it is refused; never unused (MONAI binary DiceCE)."""
    pred, target = draw(2, 1, 6), (draw(2, 1, 6, seed=3) > 0).float()
    made = LossManager.create_loss_function(
        {"type": "combined", "dice_weight": 1.0, "bce_weight": 1.0, "label_smoothing": 0.2}
    )
    softer = target * 0.8 + 0.1

    torch.testing.assert_close(made(pred, target), DiceLoss()(pred, softer) + BCELoss()(pred, softer))
    with pytest.raises(LossConfigError, match="class_weights"):
        DiceLoss(class_weights=[1.0])


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("reduction", ["none", "sample", "sum"])
def test_reduction_is_followed(kind, reduction):
    """Without reduction no loss returns a scalar (MONAI AsymmetricUnifiedFocal does), and a sum is the sum."""
    pred, labels = draw(2, 3, 6), draw_labels(2, 6)
    found = kind(reduction=reduction, **CLASSES)(pred, labels)
    each = kind(reduction="none", **CLASSES)(pred, labels)
    shape = {"none": (2,) if kind is GeneralizedDiceLoss else (2, 3), "sample": (2,), "sum": ()}[reduction]

    assert shape == tuple(found.shape)
    if reduction == "sum":
        torch.testing.assert_close(found, each.sum())


def test_equal_smooth_is_said_where_it_stands():
    """A smooth of 2 is on 2·tp for Dice and on tp for the others, and the loss says so (MONAI and smp differ)."""
    pred, target = torch.tensor([[[1.0, 1, 0]]]), torch.tensor([[[1.0, 0, 1]]])
    options = {"smooth": 2, "from_logits": False}

    assert DiceLoss(**options)(pred, target).item() == pytest.approx(1 - (2 + 2) / (4 + 2))
    assert DiceLoss(jaccard=True, **options)(pred, target).item() == pytest.approx(1 - (1 + 2) / (3 + 2))
    assert "(2·tp + s) / (Σp + Σt + s)" in DiceLoss(**options).explain()
    assert "(tp + s) / (Σp + Σt - tp + s)" in DiceLoss(jaccard=True, **options).explain()


# empties --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REGIONS)
def test_false_positives_on_an_empty_mask_cost_and_teach(kind):
    """An absent class is not free, and its gradient does not vanish (toolbelt #59, smp; MONAI 5e-15 to 2e-11)."""
    options = {} if kind is not GeneralizedDiceLoss else MANY
    pred, target = torch.full((1, 1, 32, 32), 4.0), torch.zeros(1, 1, 32, 32)
    slope = gradient(kind(**options), pred, target)

    assert kind(**options)(pred, target) > 0.9
    assert (slope > 1e-6).all()


def test_generalised_dice_weighs_rare_classes_finitely():
    """Its weights neither cancel nor are infinite for absent classes (MONAI #369, #6765, #371, #4656, #3618)."""
    labels = torch.zeros(1, 100, dtype=torch.long)
    labels[0, :2] = 1
    missing = functional.one_hot(torch.zeros(1, 100, dtype=torch.long), 3).movedim(-1, 1) * 20.0
    loss, plain = GeneralizedDiceLoss(**CLASSES), GeneralizedDiceLoss(volume_weights="uniform", **CLASSES)

    assert loss(missing, labels) > 10 * plain(missing, labels)
    assert torch.isfinite(gradient(loss, missing, labels)).all()
    assert torch.isfinite(gradient(loss, missing, torch.zeros_like(labels))).all()


@pytest.mark.parametrize("squared_pred", [True, False])
@pytest.mark.parametrize("smooth", [0.0, 1e-12, 1e-6])
def test_small_smooth_is_stable(squared_pred, smooth):
    """No NaN without smooth, with squares or not, right, wrong or empty (MONAI #807, research-contributions #27)."""
    loss = DiceLoss(smooth=smooth, squared_pred=squared_pred)

    for size, fill in product((-1e4, -30.0, 0.0, 30.0, 1e4), (0.0, 1.0)):
        pred, target = torch.full((1, 1, 8), size), torch.full((1, 1, 8), fill)

        assert torch.isfinite(loss(pred, target))
        assert torch.isfinite(gradient(loss, pred, target)).all()


def test_dice_alone_leaves_zero():
    """From a model that predicts nothing, Dice alone still learns (nnU-Net #1395, #1836)."""
    pred, target = torch.full((2, 1, 64), -6.0), torch.zeros(2, 1, 64)
    target[0, 0, :8] = 1
    slope = gradient(DiceLoss(), pred, target)

    assert (slope[0, 0, :8] < -1e-5).all()
    assert (slope[1] > 0).all()  # where the mask is empty, nothing is what to predict


@pytest.mark.parametrize("kind", REGIONS)
def test_losses_are_between_zero_and_one(kind):
    """The best is 0, never -1 (nnU-Net #232, #1053)."""
    pred, labels = draw(2, 3, 6), draw_labels(2, 6)
    right = (functional.one_hot(labels, 3).movedim(-1, 1) * 2 - 1) * 50.0

    assert 0 == pytest.approx(kind(**CLASSES)(right, labels).item(), abs=1e-6)
    assert 0 < kind(**CLASSES)(pred, labels) < 1


# soft labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [DiceLoss, lambda **o: TverskyLoss(alpha=0.4, beta=0.4, **o), lambda **o: DiceLoss(jaccard=True, **o)],
    ids=range(3),
)
@pytest.mark.parametrize("squared_pred", [True, False])
def test_soft_labels_cost_nothing_when_met(loss, squared_pred):
    """A prediction that equals its soft target costs 0 by default, and in combinations (MONAI #8094, PR #8666)."""
    p = torch.tensor([[[0.2, 0.5, 0.9, 0.0]]], dtype=torch.float64)
    one = loss(from_logits=False, squared_pred=squared_pred)
    both = CombinedLoss({"one": one, "bce": BCELoss(from_logits=False)}, {"one": 1.0, "bce": 0.0})

    assert 0 == pytest.approx(one(p, p).item(), abs=1e-12)
    assert 0 == pytest.approx(both(p, p).item(), abs=1e-12)
    assert one(p, p / 2) > 0


# focal near 0 and 1 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.99, 1.0, 2.0])
@pytest.mark.parametrize("size", [20.0, 100.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_no_gamma_makes_nan(gamma, size, dtype):
    """0^0 and 0 to a negative power are in no gradient, saturated or not (kornia #918, optax #1267, MONAI, smp)."""
    pred = torch.tensor([[[size, -size, size, -size], [-size, size, -size, size]]], dtype=dtype)
    labels, masks = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[[0.0, 1, 1, 0], [0, 1, 1, 0]]], dtype=dtype)

    assert torch.isfinite(gradient(CrossEntropyLoss(gamma=gamma), pred, labels)).all()
    assert torch.isfinite(gradient(BCELoss(gamma=gamma, **MANY), pred, masks)).all()


# tensors that are refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pred", "target", "options"),
    [
        (draw(2, 1, 8, 8), torch.full((2, 1, 8, 8), 255), {}),  # MONAI takes a mask of 0 and 255
        (draw(2, 1, 8, 8), torch.zeros(2, 4, 16), {}),  # smp reshapes what has as many elements
        (draw(2, 1, 8, 8) * 3, torch.zeros(2, 1, 8, 8), {"from_logits": False}),  # MONAI takes what is no probability
        (draw(2, 3, 8), torch.full((2, 8), 3), CLASSES),  # nnU-Net #432: a label out of range
        (draw(2, 3, 8), torch.zeros(2, 7, dtype=torch.long), CLASSES),  # nnU-Net #1610: a stale shape
    ],
    ids=range(5),
)
def test_what_would_give_a_wrong_number_is_refused(pred, target, options):
    """Masks of 0 and 255, other shapes, unactivated predictions and labels out of range raise."""
    with pytest.raises(LossInputError):
        DiceLoss(**options)(pred, target)


def test_squares_are_in_the_denominator():
    """`squared_pred` squares what is divided by, not the overlap (nnU-Net #12)."""
    p, t = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[1.0, 0.0]]])
    loss = DiceLoss(smooth=0, squared_pred=True, from_logits=False)

    assert loss(p, t).item() == pytest.approx(1 - 2 * 0.5 / (0.25 + 0.25 + 1))


# one pass, one memory -------------------------------------------------------------------------------------------------


class Allocations(TorchDispatchMode):
    """Remembers what was allocated."""

    def __init__(self, least):
        super().__init__()
        self.least, self.large = least, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Call as usual, and note the storages of results that have the least size that counts."""
        found = func(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if isinstance(one, torch.Tensor) and one.untyped_storage().nbytes() >= self.least:
                self.large.add(one.untyped_storage().data_ptr())
        return found


def test_many_classes_need_no_one_hot():
    """Ninety-five classes and squares need no tensor as large but the gradient (MONAI PR #4234, #6218: no memory)."""
    pred, labels = draw(1, 95, 128, 128).requires_grad_(), draw_labels(1, 128, 128, classes=95)
    both = CombinedLoss(
        {"dice": DiceLoss(squared_pred=True, **CLASSES), "focal": CrossEntropyLoss(gamma=2.0)},
        {"dice": 1.0, "focal": 1.0},
    )

    with Allocations(pred.untyped_storage().nbytes()) as seen:
        both(pred, labels).backward()

    assert {pred.untyped_storage().data_ptr(), pred.grad.untyped_storage().data_ptr()} >= seen.large
    assert torch.isfinite(pred.grad).all()


def test_chunks_are_written_where_they_belong():
    """Tensors of several blocks have the gradient of the plain formulas (torch's `_softmax.out` writes elsewhere)."""
    pred = draw(2, 3, 50_021)
    labels = draw_labels(2, 50_021)

    for loss in (DiceLoss(**CLASSES), CrossEntropyLoss(), CrossEntropyLoss(gamma=2.0)):
        leaf = pred.clone().requires_grad_()
        (plain,) = torch.autograd.grad(loss(leaf, labels), leaf, create_graph=True)  # which takes the plain formulas

        torch.testing.assert_close(gradient(loss, pred, labels), plain.detach(), rtol=1e-4, atol=1e-9)


def test_float64_stays_float64():
    """No loss narrows float64, so that gradients can be checked (MONAI FocalLoss does)."""
    pred, labels = draw(1, 3, 4, dtype=torch.float64), draw_labels(1, 4)

    for loss in (CrossEntropyLoss(gamma=2.0), DiceLoss(**CLASSES), LovaszLoss(**CLASSES)):
        assert loss(pred, labels).dtype == gradient(loss, pred, labels).dtype == torch.float64


# around the loss ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_losses_can_be_exported():
    """A loss is traced whole: no value of a tensor decides what is computed (MONAI #1592; its DiceCE has a list)."""

    def backend(graph, _):
        return graph.forward

    pred, labels = draw(2, 3, 6), draw_labels(2, 6)
    parts = {"dice": DiceLoss(ignore_index=255, **CLASSES), "ce": CrossEntropyLoss(ignore_index=255)}
    loss = CombinedLoss(parts, {"dice": 1.0, "ce": 1.0})

    torch.testing.assert_close(torch.compile(loss, fullgraph=True, backend=backend)(pred, labels), loss(pred, labels))


def test_weights_are_in_the_checkpoint():
    """The weights of a combination as they are now come back with its state (physicsnemo #1719)."""
    parts = {"dice": DiceLoss(), "bce": BCELoss()}
    loss = CombinedLoss(copy.deepcopy(parts), {"dice": 0.7, "bce": 0.3})
    loss.dice_weight.fill_(0.123)
    saved = io.BytesIO()
    torch.save(loss.state_dict(), saved)
    saved.seek(0)
    resumed = CombinedLoss(parts, {"dice": 0.7, "bce": 0.3})
    resumed.load_state_dict(torch.load(saved, weights_only=True))

    assert resumed.weights == loss.weights == {"dice": 0.123, "bce": 0.3}


def test_nothing_is_written_into_the_callers_dictionary():
    """Making a loss leaves its options as they were (nnU-Net's DC_and_BCE_loss writes into them)."""
    config = {"type": "combined", "dice_weight": 1.0, "bce_weight": 1.0, "dice_config": {"batch": True}, **MANY}
    before = copy.deepcopy(config)
    LossManager.create_loss_function(config)

    assert before == config


def test_deep_supervision_takes_defaults_and_labels():
    """Default weights are weights, and class numbers are shrunk (nnU-Net: TypeError; MONAI: no upsampling for Long)."""
    preds = [draw(1, 3, 8, 8), draw(1, 3, 4, 4), draw(1, 3, 2, 2)]
    loss = DeepSupervisionLoss(CrossEntropyLoss())

    assert torch.isfinite(loss(preds, draw_labels(1, 8, 8)))


def test_sensible_losses_cost_something():
    """A wrong prediction is not free, whatever the shape (MONAI #8239: a loss of 0 as documented)."""
    pred, labels = draw(2, 3, 6), draw_labels(2, 6)

    for kind in (*REGIONS, CrossEntropyLoss):
        assert kind(**CLASSES)(pred, labels) > 0.05


def test_squares_with_two_prices_are_refused():
    """A likeness above 1 would make a foreground of 0.9 better than one of 1."""
    with pytest.raises(LossConfigError, match="squared_pred"):
        TverskyLoss(alpha=0.7, beta=0.3, squared_pred=True)


def test_precision_alone_wants_a_smooth():
    """Without a price for what is missed, to predict nothing is 0/0."""
    with pytest.raises(LossConfigError, match="beta=0"):
        TverskyLoss(alpha=1, beta=0, smooth=0)


def test_classes_of_no_weight_are_not_present():
    """Where the only foreground is of a class that weighs nothing, the mask is empty and costs what *empty* says."""
    pred, target = torch.zeros(1, 2, 4), torch.tensor([[[1.0, 1, 0, 0], [0, 0, 0, 0]]])
    loss = GeneralizedDiceLoss(smooth=0, class_weights=[0.0, 1.0], **MANY)

    assert loss(pred, target).item() == pytest.approx(0.5)
    assert (gradient(loss, pred, target)[:, 1] > 0).all()


def test_smoothed_balance_is_balanced():
    """Smoothing is no foreground that a balance for rare foreground would blow up: both sides weigh the same."""
    pred, target = torch.zeros(1, 1, 1000), torch.zeros(1, 1, 1000)
    target[..., :1] = 1
    loss = BCELoss(alpha="balanced", label_smoothing=0.1)

    torch.testing.assert_close(loss(pred, target), BCELoss()(pred, target))


def test_smoothed_cost_of_classes_of_no_weight_is_no_mean():
    """Where only classes of weight 0 occur, nothing counts, and smoothing does not turn the mean into a sum."""
    pred, labels = draw(1, 3, 6), torch.zeros(1, 6, dtype=torch.long)
    loss = CrossEntropyLoss(class_weights=[0.0, 1.0, 1.0], label_smoothing=0.1)

    assert loss(pred, labels).item() == 0
    assert not gradient(loss, pred, labels).any()
