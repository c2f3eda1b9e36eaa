"""One loss over the outputs of a network at several resolutions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlc_losses import BCELoss, CombinedLoss, DiceLoss, LossConfigError, LossInputError, LossManager
from mlc_losses.cross_entropy import CrossEntropyLoss
from mlc_losses.deep_supervision import DeepSupervisionLoss
from mlc_losses.testing.strategies import cases

SIZES = (8, 4, 2)
FACTORS = (1, 2, 4)


def draw(*, channels=1, sizes=SIZES):
    """Return outputs of a network, the finest first."""
    maker = torch.Generator().manual_seed(3)
    return [torch.randn(2, channels, n, n, generator=maker) for n in sizes]


def draw_mask(seed=1):
    """Return a target at full resolution."""
    return (torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def centre(one, factor):
    """Return every *factor*-th voxel, from the middle of each cell on."""
    return one if factor == 1 else one[..., factor // 2 :: factor, factor // 2 :: factor]


def combine():
    """Return a combination."""
    return CombinedLoss({"dice": DiceLoss(), "bce": BCELoss()}, {"dice": 0.7, "bce": 0.3})


@pytest.mark.parametrize("weights", [None, [3.0, 2.0, 1.0], [1.0, 0.0, 0.0]])
def test_it_is_the_weighted_mean_of_its_levels(weights):
    """Each level counts by its share, and halves from one to the next if nothing is said."""
    preds, target = draw(), draw_mask()
    shares = torch.tensor(weights or [1.0, 0.5, 0.25])
    values = [DiceLoss()(one, centre(target, factor)) for one, factor in zip(preds, FACTORS, strict=True)]
    expected = (torch.stack(values) * shares / shares.sum()).sum()

    torch.testing.assert_close(DeepSupervisionLoss(DiceLoss(), weights=weights)(preds, target), expected)


@given(case=cases(channels=1), mask=st.booleans())
def test_one_output_is_the_loss_itself(case, mask):
    """A list of one, or the tensor alone as in evaluation, changes no bit."""
    loss = DiceLoss()
    what_counts = case.what_counts if mask else {}
    expected = loss(case.pred, case.target, **what_counts)

    assert torch.equal(expected, DeepSupervisionLoss(loss)([case.pred], case.target, **what_counts))
    assert torch.equal(expected, DeepSupervisionLoss(loss, weights=[1, 2, 3])(case.pred, case.target, **what_counts))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_class_numbers_stay_class_numbers(dtype):
    """Labels of every dtype, with their ignored ones, are taken, never mixed."""
    preds = draw(channels=3)
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(2)).to(dtype)
    labels[:, :3] = 100
    loss = CrossEntropyLoss(ignore_index=100)
    values = [loss(one, centre(labels, factor)) for one, factor in zip(preds, FACTORS, strict=True)]
    expected = (values[0] + values[1] / 2 + values[2] / 4) / 1.75

    torch.testing.assert_close(DeepSupervisionLoss(loss)(preds, labels), expected)
    torch.testing.assert_close(DeepSupervisionLoss(loss)(preds, labels.unsqueeze(1)), expected)


def test_masks_and_weights_shrink_with_the_target():
    """What does not count at full resolution does not count at half of it."""
    preds, target = draw(sizes=(8, 4)), draw_mask()
    mask, weight = draw_mask(5).bool(), draw_mask(6) + 0.5
    values = [
        BCELoss()(preds[0], target, mask=mask, weight=weight),
        BCELoss()(preds[1], centre(target, 2), mask=centre(mask, 2), weight=centre(weight, 2)),
    ]
    loss = DeepSupervisionLoss(BCELoss(), weights=[1.0, 1.0])

    torch.testing.assert_close(loss(preds, target, mask=mask, weight=weight), (values[0] + values[1]) / 2)


@pytest.mark.parametrize(("old", "new"), [(7, 3), (5, 2), (9, 4), (6, 4), (5, 1)])
def test_sizes_need_not_divide(old, new):
    """The voxel nearest to each centre is taken, whatever the sizes."""
    target = torch.arange(old).remainder(2).view(1, 1, old).float()
    nearest = [int((i + 0.5) * old / new) for i in range(new)]
    pred = torch.zeros(1, 1, new)
    loss = DeepSupervisionLoss(BCELoss(reduction="sum"), weights=[0.0, 1.0])
    expected = BCELoss(reduction="sum")(pred, target[..., nearest])

    assert torch.equal(expected, loss([torch.zeros(1, 1, old), pred], target))


def test_parts_are_means_over_levels():
    """A combination still says what each part contributes, and its total is the loss."""
    preds, target = draw(), draw_mask()
    loss = DeepSupervisionLoss(combine())
    found = loss.break_down(preds, target)
    dice, bce = (DeepSupervisionLoss(one)(preds, target) for one in (DiceLoss(), BCELoss()))

    assert torch.equal(loss(preds, target), found.total)
    torch.testing.assert_close(torch.stack([part.value for part in found.parts]), torch.stack([dice, bce]))
    torch.testing.assert_close(sum(part.share for part in found.parts), torch.tensor(1.0))
    named = loss.get_loss_components(preds, target)
    assert all(torch.equal(named[f"{part.name}_weighted"], part.weighted) for part in found.parts)
    assert torch.equal(named["total"], found.total)


def test_samples_stay_apart():
    """With reduction="sample" each sample has the mean over its own levels."""
    preds, target = draw(), draw_mask()
    loss = DeepSupervisionLoss(DiceLoss(reduction="sample"))
    expected = torch.cat([loss([one[[i]] for one in preds], target[[i]]) for i in range(2)])

    torch.testing.assert_close(loss(preds, target), expected)


def test_it_can_be_configured_and_explains_itself():
    """A configuration says `deep_supervision`, and the explanation what it weighs."""
    loss = LossManager.create_loss_function({"type": "dice", "deep_supervision": [2, 1]})

    assert "weighing 2 : 1" in loss.explain()
    assert "Dice loss" in loss.explain()
    assert "1 : 0.5 : 0.25 : …" in DeepSupervisionLoss(DiceLoss()).explain()


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [-1.0, 2.0], ["1"]])
def test_weights_that_are_none_are_refused(weights):
    """No weight above 0 is no loss."""
    with pytest.raises(LossConfigError, match="weights"):
        DeepSupervisionLoss(DiceLoss(), weights=weights)


def test_what_cannot_be_added_up_is_refused():
    """A loss without a number, outputs without weights, and a coarse output before a fine one."""
    preds, target = draw(), draw_mask()

    with pytest.raises(LossConfigError, match="adds up numbers"):
        DeepSupervisionLoss(DiceLoss(reduction="none"))
    with pytest.raises(LossConfigError, match="no components"):
        DeepSupervisionLoss(DiceLoss()).break_down(preds, target)
    with pytest.raises(LossInputError, match="3 outputs, but deep supervision has 2 weights"):
        DeepSupervisionLoss(DiceLoss(), weights=[1, 1])(preds, target)
    with pytest.raises(LossInputError, match="0 outputs"):
        DeepSupervisionLoss(DiceLoss())([], target)


@pytest.mark.parametrize("what", ["target", "mask", "weight"])
@pytest.mark.parametrize("size", [(6, 6), (12, 12), (8, 6)])
def test_nothing_is_resampled_to_the_finest_output(what, size):
    """Target, mask and weight have the resolution of the first output, or are refused: smaller and larger ones."""
    given = {"target": torch.ones(1, 1, 8, 8), "mask": torch.ones(1, 1, 8, 8).bool(), "weight": torch.ones(1, 1, 8, 8)}
    given[what] = given[what][..., :1, :1].expand(1, 1, *size)

    for pred in (torch.zeros(1, 1, 8, 8), [torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4)]):
        with pytest.raises(LossInputError, match=f"{what} is .*first output .*the resolution \\(8, 8\\)"):
            DeepSupervisionLoss(DiceLoss())(pred, **given)


@pytest.mark.parametrize("sizes", [(4, 8), (8, 2, 4)])
def test_outputs_come_from_the_finest_on(sizes):
    """An output that is larger than the one before it is refused, also where it would weigh nothing."""
    outputs = [torch.zeros(1, 1, one, 8) for one in sizes]
    target = torch.ones(1, 1, sizes[0], 8)

    with pytest.raises(LossInputError, match=r"outputs\[\d\] is .*from the finest to the coarsest"):
        DeepSupervisionLoss(DiceLoss(), weights=[1, *[0] * (len(sizes) - 1)])(outputs, target)


def test_output_of_weight_0_is_not_looked_at():
    """What does not count may hold NaN."""
    loss = DeepSupervisionLoss(DiceLoss(), weights=[1, 0])
    pred, target = torch.randn(1, 1, 8, 8), torch.ones(1, 1, 8, 8)

    assert torch.equal(loss([pred, torch.full((1, 1, 4, 4), float("nan"))], target), DiceLoss()(pred, target))


@pytest.mark.parametrize("pred", [None, {"a": torch.zeros(1, 1, 4)}, [torch.zeros(1, 1, 4), 3]])
def test_outputs_are_a_list_of_tensors(pred):
    """Anything else is refused with what to give."""
    with pytest.raises(LossInputError, match="give the outputs of the network as a list"):
        DeepSupervisionLoss(DiceLoss())(pred, torch.zeros(1, 1, 4))
