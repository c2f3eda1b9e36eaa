"""Sums by hand agree with sums by autograd, in every block, in value, gradient and memory."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from mlc_losses import BCELoss, CombinedLoss, CrossEntropyLoss, DeepSupervisionLoss, DiceLoss
from mlc_losses.inputs import read_inputs
from mlc_losses.summation import sum_plain, sum_terms
from mlc_losses.summation.blocks import cut, fold, measure_block, split
from mlc_losses.summation.focal import FocalKernel
from mlc_losses.summation.fused import FusedSums
from mlc_losses.summation.kernels import AnyKernel
from mlc_losses.summation.paths import choose_kernel
from mlc_losses.summation.sigmoid import SigmoidKernel
from mlc_losses.summation.softmax import SoftmaxKernel
from mlc_losses.summation.together import can_share, sum_sharing
from mlc_losses.summation.unrolled import can_unroll, sum_unrolled
from mlc_losses.terms import RegionTerm, VoxelTerm

BLOCK = 256
"""Values of a block in these tests, so that few voxels are several."""

REGIONS = [(), (RegionTerm(),), (RegionTerm(squared=True),)]
VOXELS = [
    (),
    *((VoxelTerm(gamma=gamma, by_class=by_class),) for gamma in (0.0, 0.5, 2.0) for by_class in (False, True)),
]
TERMS = [region + voxel for region, voxel in product(REGIONS, VOXELS) if region + voxel]
GATE = 2e-6


def make(shape, *, mode="multilabel", dtype=torch.float64, soft=False, size=3.0, seed=0, mask=False, ignore_index=None):
    """Return inputs of *shape*; what does not count is NaN."""
    draw = torch.Generator().manual_seed(seed)
    pred = (size * torch.randn(shape, generator=draw, dtype=torch.float64)).to(dtype)
    if mode == "multiclass":
        target = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=draw)
    else:
        target = torch.rand(shape, generator=draw, dtype=torch.float64)
        target = target.to(dtype) if soft else (target < 0.3).to(dtype)
    counts = torch.rand((shape[0], 1, *shape[2:]), generator=draw) < 0.7 if mask else None
    if mask:
        pred = torch.where(counts, pred, float("nan"))
    if ignore_index is not None and target.numel():
        where = torch.rand(target.shape, generator=draw) < 0.2
        target = torch.where(where, ignore_index, target).to(target.dtype)
    return read_inputs(pred, target, counts, None, mode=mode, from_logits=True, ignore_index=ignore_index)


def differentiate(inputs, way):
    """Return the sums that *way* makes of *inputs*, and the gradient of a fixed mixture of them."""
    pred = inputs.pred.detach().clone().requires_grad_()
    sums = way(inputs._replace(pred=pred))
    draw = torch.Generator().manual_seed(5)
    mixed = [(one * torch.rand(one.shape, generator=draw, dtype=torch.float64)).sum() for one in sums]
    sum(mixed).backward()
    return sums, pred.grad


def fuse(terms, size=BLOCK):
    """Return the way by hand."""
    return lambda inputs: FusedSums.apply(inputs.pred, inputs, terms, choose_kernel(inputs, terms), size)


def plainly(terms):
    """Return the way by autograd, in float64."""
    return lambda inputs: sum_plain(inputs._replace(pred=inputs.pred.double()), terms)


def agree(inputs, terms, size=BLOCK, gate=None):
    """Hold sums and gradient by hand against those by autograd."""
    gate = gate or (1e-12 if inputs.pred.dtype == torch.float64 else GATE)
    sums, gradient = differentiate(inputs, fuse(terms, size))
    expected, slope = differentiate(inputs, plainly(terms))
    for one, other in zip(sums, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=gate, atol=gate * 1e-6)
    assert gradient.dtype == inputs.pred.dtype
    assert torch.isfinite(gradient).all()
    difference = (gradient.double() - slope.double()).abs().amax() if slope.numel() else torch.zeros(())
    assert difference <= gate * slope.abs().amax() if slope.numel() else True


@pytest.mark.parametrize("terms", TERMS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_kernels_agree_with_plain_sums(terms, dtype):
    """Every pair of terms, hard and soft, masked or not, in one block and in several, has the same sums."""
    for shape, mask in product(((2, 1, 600), (2, 3, 333), (5, 2, 40)), (False, True)):
        agree(make(shape, dtype=dtype, mask=mask), terms)
        agree(make(shape, dtype=dtype, mask=mask, soft=True), terms)
        if shape[1] > 1:
            agree(make(shape, dtype=dtype, mask=mask, mode="multiclass"), terms)
            agree(make(shape, dtype=dtype, mask=mask, mode="multiclass", ignore_index=1), terms)


def test_fast_kernels_are_chosen():
    """What the kernels have, they get, and autograd gets the rest."""
    both = (RegionTerm(), VoxelTerm())
    hard, soft, classes = make((1, 2, 9)), make((1, 2, 9), soft=True), make((1, 2, 9), mode="multiclass")

    assert isinstance(choose_kernel(soft, both), SigmoidKernel)
    assert isinstance(choose_kernel(hard, (VoxelTerm(gamma=2.0),)), FocalKernel)
    assert isinstance(choose_kernel(soft, (VoxelTerm(gamma=2.0),)), AnyKernel)
    assert isinstance(choose_kernel(hard._replace(target=hard.target.bool()), (VoxelTerm(by_class=True),)), FocalKernel)
    assert isinstance(choose_kernel(classes, both), SoftmaxKernel)
    assert isinstance(choose_kernel(classes._replace(from_logits=False), both), AnyKernel)
    assert isinstance(choose_kernel(hard, (RegionTerm(smoothing=0.1),)), AnyKernel)
    assert isinstance(choose_kernel(hard, (RegionTerm(), RegionTerm(squared=True))), AnyKernel)
    assert isinstance(choose_kernel(hard._replace(weight=torch.ones(1, 1, 9)), both), AnyKernel)


@pytest.mark.parametrize("voxels", [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
@pytest.mark.parametrize("terms", [(RegionTerm(), VoxelTerm()), (RegionTerm(), VoxelTerm(gamma=2.0))], ids=repr)
def test_edges_of_blocks(voxels, terms):
    """Nothing is lost or counted twice where a block ends."""
    agree(make((2, 1, voxels)), terms)
    agree(make((2, 2, voxels), mode="multiclass"), terms)


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 60), st.none() | st.integers(1, 50))
def test_blocks_cover_everything_once(samples, channels, voxels, size):
    """Blocks hold every voxel of every sample once, in the order of what they are cut from."""
    numbers = torch.arange(samples * channels * voxels).view(samples, channels, voxels)
    block = measure_block(samples, channels, voxels, size=size)
    parts = list(split(numbers, block))
    slices = list(cut(samples, channels, voxels, size=size))

    assert all(torch.equal(part, numbers[rows, :, some]) for part, (rows, some) in zip(parts, slices, strict=True))
    assert numbers.numel() == sum(part.numel() for part in parts)
    assert torch.equal(numbers.flatten(), torch.cat([part.flatten() for part in parts]).sort().values)
    assert len({part.shape[0] for part in parts}) == 1


@given(
    st.sampled_from(TERMS),
    st.sampled_from(["multilabel", "multiclass"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 0, 255]),
    st.integers(0, 1000),
    st.sampled_from([0.01, 1.0, 8.0]),
)
def test_options_agree(terms, mode, soft, mask, ignore_index, seed, size):
    """Options do not get in each other's way."""
    agree(make((2, 3, 150), mode=mode, soft=soft, mask=mask, ignore_index=ignore_index, seed=seed, size=size), terms)


@pytest.mark.parametrize("terms", [(RegionTerm(), VoxelTerm()), (RegionTerm(), VoxelTerm(gamma=2.0))], ids=repr)
@pytest.mark.parametrize("mode", ["multilabel", "multiclass"])
@pytest.mark.parametrize("size", [0.0, 1e-3, 12.0, 20.0, 90.0, 1e4])
def test_extreme_logits(terms, mode, size):
    """Sure logits, right and wrong, cost what float64 says; gradients are as exact as probabilities of float32 are."""
    for dtype, right in product((torch.float32, torch.float64), (True, False)):
        inputs = make((2, 3, 500), mode=mode, dtype=dtype)
        truth = inputs.target
        if mode == "multiclass":
            truth = torch.nn.functional.one_hot(truth, 3).transpose(1, 2)
        pred = size * (1 + 0.1 * torch.rand(2, 3, 500, generator=torch.Generator().manual_seed(3))).to(dtype)
        pred = torch.where((truth == 1) == right, pred, -pred)
        inputs = inputs._replace(pred=pred)
        sums, gradient = differentiate(inputs, fuse(terms))
        expected, slope = differentiate(inputs, plainly(terms))

        for one, other in zip(sums, expected, strict=True):
            # what is next to nothing beside the sizes of regions or the costs of others is so to float32 too
            torch.testing.assert_close(one, other, rtol=GATE, atol=1e-7 * other.abs().amax().item() + 1e-14)
        assert (gradient - slope).abs().amax() <= GATE * slope.abs().amax() + 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("sure", [0.5, 2.0, 3.4, 3.6, 6.0, 9.0])
def test_logarithms_of_products_lose_nothing_that_shows(sure):
    """Where all voxels are equally sure, so that errors of rounding do not cancel, costs are right all the same."""
    for mode in ("multilabel", "multiclass"):
        inputs = make((1, 2, 5000), mode=mode, dtype=torch.float32)
        truth = inputs.target if mode == "multilabel" else torch.nn.functional.one_hot(inputs.target, 2).transpose(1, 2)
        inputs = inputs._replace(pred=(2 * truth - 1).float() * sure)
        (sums,), (expected,) = (way((VoxelTerm(),))(inputs) for way in (fuse, plainly))

        torch.testing.assert_close(sums, expected, rtol=GATE, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("terms", [(RegionTerm(), VoxelTerm()), (RegionTerm(), VoxelTerm(gamma=2.0))], ids=repr)
def test_half_precision(dtype, terms):
    """Half precision is read as it is and summed in float32; the gradient is rounded once."""
    for mode in ("multilabel", "multiclass"):
        inputs = make((2, 2, 700), mode=mode, dtype=dtype)
        sums, gradient = differentiate(inputs, fuse(terms))
        expected, slope = differentiate(inputs, plainly(terms))

        for one, other in zip(sums, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=GATE, atol=1e-8)
        torch.testing.assert_close(gradient, slope, rtol=2 * torch.finfo(dtype).eps, atol=1e-7)


@pytest.mark.parametrize("terms", TERMS, ids=repr)
@pytest.mark.parametrize("mode", ["multilabel", "multiclass"])
def test_mask_of_everything_is_no_mask(terms, mode):
    """A mask that is true everywhere changes no bit."""
    inputs = make((2, 3, 300), mode=mode, dtype=torch.float32)
    masked = inputs._replace(mask=torch.ones(2, 1, 300, dtype=torch.bool))
    (sums, gradient), (others, slope) = (differentiate(one, fuse(terms)) for one in (inputs, masked))

    assert all(torch.equal(one, other) for one, other in zip(sums, others, strict=True))
    assert torch.equal(gradient, slope)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("mode", ["multilabel", "multiclass"])
def test_what_does_not_count_may_hold_anything(bad, mode):
    """Whatever is under the mask, sums are the same and the gradient there is exactly 0."""
    for terms in TERMS:
        inputs = make((2, 3, 300), mode=mode, dtype=torch.float32, mask=True)
        counts = inputs.mask.expand(2, 3, 300)
        filled = inputs._replace(pred=torch.where(counts, inputs.pred, bad))
        zeros = inputs._replace(pred=torch.where(counts, inputs.pred, 0.0))
        (sums, gradient), (others, slope) = (differentiate(one, fuse(terms)) for one in (filled, zeros))

        assert all(torch.equal(one, other) for one, other in zip(sums, others, strict=True))
        assert torch.equal(gradient, slope)
        assert not gradient[~counts].any()


@pytest.mark.parametrize("mode", ["multilabel", "multiclass"])
def test_strides_do_not_matter(mode):
    """Channels last, transposed and sliced predictions give the numbers of contiguous ones."""
    for terms in TERMS:
        inputs = make((2, 3, 400), mode=mode)
        expected, slope = differentiate(inputs, fuse(terms))
        wide = torch.empty(2, 3, 800, dtype=torch.float64)[:, :, ::2]
        last = torch.empty(2, 400, 3, dtype=torch.float64).transpose(1, 2)
        for place in (wide, last):
            pred = place.copy_(inputs.pred).requires_grad_()
            sums = fuse(terms)(inputs._replace(pred=pred))
            draw = torch.Generator().manual_seed(5)
            mixed = [(one * torch.rand(one.shape, generator=draw, dtype=torch.float64)).sum() for one in sums]
            (gradient,) = torch.autograd.grad(sum(mixed), pred)

            for one, other in zip(sums, expected, strict=True):
                torch.testing.assert_close(one, other)
            torch.testing.assert_close(gradient, slope)


def test_nothing_is_nothing():
    """A batch without samples has sums of no samples and a gradient."""
    inputs = make((0, 1, 5))
    pred = inputs.pred.requires_grad_()
    (sums,) = sum_terms(inputs._replace(pred=pred), (RegionTerm(),))
    sums.sum().backward()

    assert (5, 0, 1) == sums.shape
    assert (0, 1, 5) == pred.grad.shape


def losses():
    """Return a loss and tensors for every kernel."""
    dice, bce, focal = DiceLoss(), BCELoss(), BCELoss(gamma=2.0)
    draw = torch.Generator().manual_seed(4)
    pred = torch.randn(2, 1, 6, 7, generator=draw, dtype=torch.float64)
    many = torch.randn(2, 3, 6, 7, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 6, 7), generator=draw)
    weights = {"region": 0.5, "voxel": 0.5}
    classes = CombinedLoss({"region": DiceLoss(mode="multiclass"), "voxel": CrossEntropyLoss(gamma=2.0)}, weights)
    return [
        pytest.param(CombinedLoss({"region": dice, "voxel": bce}, weights), pred, (pred > 0.3).double(), id="sigmoid"),
        pytest.param(CombinedLoss({"region": dice, "voxel": focal}, weights), pred, (pred > 0.3).double(), id="focal"),
        pytest.param(classes, many, labels, id="softmax"),
        pytest.param(BCELoss(label_smoothing=0.1), pred, (pred > 0.3).double(), id="any"),
    ]


@pytest.mark.parametrize(("loss", "pred", "target"), losses())
def test_kept_graph_gives_the_gradient_again(loss, pred, target):
    """A second backward pass through a kept graph has the gradient of the first."""
    pred = pred.clone().requires_grad_()
    value = loss(pred, target)
    (first,) = torch.autograd.grad(value, pred, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(value, pred, retain_graph=True)
    (third,) = torch.autograd.grad(value, pred)

    assert torch.equal(kept, first), "the second pass wrote into what the first returned"
    torch.testing.assert_close(second, first)
    torch.testing.assert_close(third, first)


@pytest.mark.parametrize(("loss", "pred", "target"), losses())
def test_gradient_can_be_differentiated(loss, pred, target):
    """Second derivatives agree with finite differences of the first."""
    small = pred[..., :2, :2].clone().requires_grad_()

    assert torch.autograd.gradgradcheck(lambda one: loss(one, target[..., :2, :2]), [small])


@pytest.mark.parametrize(("loss", "pred", "target"), losses())
def test_gradient_becomes_the_parameters_own(loss, pred, target):
    """Autograd takes the gradient as it is, without a copy, and nothing else holds it."""
    pred = pred.clone().requires_grad_()
    found = []
    value = loss(pred, target)
    value.grad_fn.register_prehook(lambda _: None)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as record:
        value.backward()
    found = [one for one in record.events() if one.name in {"aten::clone", "aten::copy_"}]
    before = pred.grad.clone()
    pred.grad.add_(1)

    assert not [one for one in found if one.input_shapes and list(pred.shape) == one.input_shapes[0]]
    assert torch.equal(before + 1, pred.grad)


@pytest.mark.parametrize(("loss", "pred", "target"), losses())
def test_inputs_that_changed_are_noticed(loss, pred, target):
    """Writing to the prediction or the target between the passes is torch's error, not a wrong gradient."""
    for number in range(2):
        leaf, other = pred.clone().requires_grad_(), target.clone()
        output = leaf * 1
        value = loss(output, other)
        (output, other)[number].data.size()
        with torch.no_grad():
            (output, other)[number].add_(0)

        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.backward()


@pytest.mark.parametrize(("loss", "pred", "target"), losses())
def test_without_a_gradient_nothing_is_kept(loss, pred, target):
    """A loss of a prediction that wants no gradient has no graph, and the value of one that has."""
    value = loss(pred, target)

    assert not value.requires_grad
    assert torch.equal(value, loss(pred.clone().requires_grad_(), target).detach())


@pytest.mark.parametrize(("loss", "pred", "target"), losses())
def test_autocast_changes_nothing(loss, pred, target):
    """Under autocast, in deep supervision too, value and gradient are those without."""
    deep = DeepSupervisionLoss(loss)
    found = []
    for enabled in (False, True):
        leaf = pred.float().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            value = deep([leaf, leaf[..., ::2, ::2]], target)
            value.backward()
        found.append((value.detach(), leaf.grad))

    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def measure(loss, pred, target):
    """Return the peak of memory that a forward and backward pass has live, the gradient included, in predictions."""
    pred.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        loss(pred, target).backward()
    live = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak / pred.nbytes


@pytest.mark.parametrize(
    ("voxel", "limit"), [(BCELoss(), 1.15), (BCELoss(gamma=2.0), 1.5), (None, 1.3)], ids=["bce", "focal", "focal alone"]
)
def test_memory_of_channels(voxel, limit):
    """A pass over many voxels has the gradient live and little else."""
    dice = DiceLoss()
    loss = BCELoss(gamma=2.0) if voxel is None else CombinedLoss({"d": dice, "v": voxel}, {"d": 0.5, "v": 0.5})
    draw = torch.Generator().manual_seed(1)
    pred = torch.randn(8, 1, 512, 512, generator=draw).requires_grad_()
    target = (torch.rand(8, 1, 512, 512, generator=draw) < 0.2).float()

    assert 1 <= measure(loss, pred, target) <= limit


def test_memory_of_classes():
    """There is no one-hot target of all voxels."""
    loss = CombinedLoss({"d": DiceLoss(mode="multiclass"), "v": CrossEntropyLoss()}, {"d": 0.5, "v": 0.5})
    draw = torch.Generator().manual_seed(1)
    pred = torch.randn(2, 3, 128, 128, 64, generator=draw).requires_grad_()
    target = torch.randint(0, 3, (2, 128, 128, 64), generator=draw)

    assert 1 <= measure(loss, pred, target) <= 1.4


@pytest.mark.parametrize("mask", [False, True])
def test_unrolled_sums_agree(mask):
    """What the compiler is given for few classes has the sums and gradients of the plain formulas."""
    for terms in TERMS:
        inputs = make((2, 3, 90), mode="multiclass", mask=mask)
        assert can_unroll(inputs, terms)
        sums, gradient = differentiate(inputs, lambda one, terms=terms: sum_unrolled(one, terms))
        expected, slope = differentiate(inputs, plainly(terms))

        for one, other in zip(sums, expected, strict=True):
            torch.testing.assert_close(one, other)
        torch.testing.assert_close(gradient, slope)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_sharing_sums_agree(mask, soft):
    """What the compiler is given for channels that stand alone has the sums and gradients of the plain formulas."""
    for terms in TERMS:
        inputs = make((2, 3, 90), mask=mask, soft=soft)
        assert can_share(inputs, terms)
        sums, gradient = differentiate(inputs, lambda one, terms=terms: sum_sharing(one, terms))
        expected, slope = differentiate(inputs, plainly(terms))

        for one, other in zip(sums, expected, strict=True):
            torch.testing.assert_close(one, other)
        torch.testing.assert_close(gradient, slope)


def test_sharing_sums_of_a_logit_of_zero():
    """Where the two branches meet the derivative is that of the formula, not that of neither or both."""
    target = torch.tensor([[[0.0, 1.0, 0.25]]], dtype=torch.float64)
    inputs = read_inputs(
        torch.zeros(1, 1, 3).double(), target, None, None, mode="binary", from_logits=True, ignore_index=None
    )
    for terms in TERMS:
        _, gradient = differentiate(inputs, lambda one, terms=terms: sum_sharing(one, terms))
        _, slope = differentiate(inputs, plainly(terms))

        torch.testing.assert_close(gradient, slope)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 40), st.integers(1, 5000))
def test_folded_inputs_are_the_same_voxels(samples, channels, some, block):
    """Rows that a sample is folded into are of one length, in its order, and those of other samples are apart."""
    pred = torch.arange(float(samples * channels * some * 64)).view(samples, channels, -1)
    inputs = read_inputs(pred, pred > 3, None, None, mode="multilabel", from_logits=True, ignore_index=None)
    folded, rows = fold(inputs, block)

    assert folded.pred.shape[0] == samples * rows
    assert torch.equal(pred, folded.pred.reshape(pred.shape))
    assert torch.equal(inputs.target, folded.target.reshape(pred.shape))
    assert rows == 1 or channels == 1


@pytest.mark.parametrize("terms", TERMS, ids=repr)
def test_one_block_agrees(terms):
    """Without a loop, as on accelerators, sums are the same."""
    agree(make((2, 3, 333), dtype=torch.float32, mask=True), terms, size=None)
    agree(make((2, 3, 333), dtype=torch.float32, mode="multiclass"), terms, size=None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("terms", TERMS, ids=repr)
def test_accelerators_agree(terms):
    """On a GPU sums are those of the CPU."""
    for inputs in (make((2, 3, 5000), dtype=torch.float32), make((2, 3, 5000), dtype=torch.float32, mode="multiclass")):
        there = inputs._replace(pred=inputs.pred.cuda(), target=inputs.target.cuda())
        pred = there.pred.requires_grad_()
        sums = sum_terms(there._replace(pred=pred), terms)
        for one, other in zip(sums, sum_plain(inputs, terms), strict=True):
            torch.testing.assert_close(one.cpu(), other, rtol=1e-5, atol=1e-6)
        sum(one.sum() for one in sums).backward()
        leaf = inputs.pred.clone().requires_grad_()
        sum(one.sum() for one in sum_plain(inputs._replace(pred=leaf), terms)).backward()
        torch.testing.assert_close(pred.grad.cpu(), leaf.grad, rtol=1e-4, atol=1e-5)
