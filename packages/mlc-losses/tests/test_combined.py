"""Weighted sums say what they consist of."""

import io
import json
from functools import partial

import pytest
import torch
from hypothesis import given
from torch import nn

from mlc_losses import (
    BCELoss,
    CombinedLoss,
    DiceLoss,
    LossConfigError,
    LossManager,
    get_preset_loss_config,
)
from mlc_losses.testing.strategies import cases


def make(**changes):
    """Return the default preset with changes."""
    return LossManager.create_loss_function({**get_preset_loss_config("default_segmentation"), **changes})


class Silent(nn.Module):
    """A loss that returns what it is told to."""

    def __init__(self, value):
        super().__init__()
        self.value = value
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, pred, target, *, mask=None):
        """Return the value, with a graph."""
        return self.value + 0 * pred.sum()

    def explain(self):
        """Return two lines."""
        return "silent\n  always"


@given(case=cases(channels=1, dtype=torch.float32))
def test_total_is_the_loss_to_the_bit(case):
    """What is logged and what is trained on are the same number, and so are their gradients."""
    loss, pred = make(), case.pred.requires_grad_()
    trained, logged = loss(pred, case.target), loss.get_loss_components(pred, case.target)["total"]

    assert torch.equal(trained, logged)
    assert torch.equal(torch.autograd.grad(trained, pred)[0], torch.autograd.grad(logged, pred)[0])


def test_components_are_the_losses_themselves():
    """The parts are named after their components and detached: value, weight, one times the other, and its share."""
    pred, target = torch.randn(2, 1, 5, 5, requires_grad=True), torch.ones(2, 1, 5, 5)
    found = make().get_loss_components(pred, target)
    whats = ("loss", "weight", "weighted", "share")

    assert list(found) == [*(f"{name}_{what}" for name in ("dice", "bce") for what in whats), "total"]
    assert [one.requires_grad for one in found.values()] == [False] * 8 + [True]
    for name, one in (("dice", DiceLoss()), ("bce", BCELoss())):
        assert torch.equal(found[f"{name}_loss"], one(pred, target))
        torch.testing.assert_close(found[f"{name}_weighted"], make().weights[name] * found[f"{name}_loss"])
        torch.testing.assert_close(found[f"{name}_share"], found[f"{name}_weighted"] / found["total"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_may_change_before_the_backward_pass(dtype):
    """The gradient is that of the weights with which the loss was computed, however soon they change."""
    pred, target = torch.randn(2, 1, 6, dtype=dtype, requires_grad=True), torch.ones(2, 1, 6)
    loss = make()
    (expected,) = torch.autograd.grad(loss(pred, target), pred)
    for call in (loss, lambda *given: loss.get_loss_components(*given)["total"]):
        value = call(pred, target)
        loss.dice_weight.fill_(0.1)
        (gradient,) = torch.autograd.grad(value, pred)
        loss.dice_weight.fill_(0.7)

        assert torch.equal(gradient, expected)


class Spoilt(Silent):
    """A loss that is infinite, and whose gradient is NaN."""

    def forward(self, pred, target, *, mask=None):
        """Divide by 0."""
        return (1 / (0 * pred[..., 1:])).abs().sum()


@pytest.mark.parametrize("run", [lambda call: call, partial(torch.compile, fullgraph=True, backend="aot_eager")])
@pytest.mark.parametrize("off", [BCELoss(), Spoilt(1.0)], ids=lambda one: type(one).__name__)
def test_a_weight_of_0_switches_off(run, off):
    """What weighs 0 adds exactly 0 and has no gradient, also where its value is infinite; its own value still shows."""
    pred, target = torch.tensor([[[-torch.inf, 0.0, 1.0, 2.0]]], requires_grad=True), torch.ones(1, 1, 4)
    loss = CombinedLoss({"dice": DiceLoss(), "off": off}, {"dice": 1, "off": 0})
    expected = DiceLoss()(pred, target)
    found = run(loss.get_loss_components)(pred, target)
    (gradient,) = torch.autograd.grad(found["total"], pred)

    torch.testing.assert_close(found["total"], expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, pred)[0])
    assert found["off_weighted"] == found["off_share"] == 0
    assert found["off_loss"] == torch.inf


def test_components_take_one_pass():
    """Looking at the parts evaluates each component once."""
    calls = []

    class Counted(Silent):
        def forward(self, pred, target, *, mask=None):
            calls.append(self.value)
            return super().forward(pred, target)

    loss = CombinedLoss({"a": Counted(1.0), "b": Counted(2.0)}, {"a": 1, "b": 1})
    loss.get_loss_components(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))

    assert calls == [1.0, 2.0]


def test_inputs_are_checked_once(monkeypatch):
    """A combination looks at the values of its tensors once for all its components, in either kind of call."""
    calls = []
    monkeypatch.setattr("mlc_losses.base.check_values", lambda inputs, **_: calls.append(1) or inputs)
    make()(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))
    make().get_loss_components(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))
    make(lovasz_weight=1)(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))

    assert calls == [1, 1, 1]


def test_breakdown_adds_up():
    """Weighted values add up to the total, and shares to 1."""
    pred, target = torch.randn(2, 1, 6, dtype=torch.float64), torch.ones(2, 1, 6)
    found = make().break_down(pred, target)
    by_name = {part.name: part for part in found.parts}

    assert list(by_name) == ["dice", "bce"]
    assert by_name["dice"].weight.item() == 0.7
    for part in found.parts:
        torch.testing.assert_close(part.weighted, part.value * part.weight)
        torch.testing.assert_close(part.share, part.weighted / found.total)
    torch.testing.assert_close(sum(part.weighted for part in found.parts), found.total)


def test_shares_of_nothing_are_0():
    """Where the total is 0 nobody has a share, and there is no NaN in the log."""
    pred, target = torch.zeros(1, 1, 4), torch.zeros(1, 1, 4)
    found = make().break_down(pred, target, mask=torch.zeros(1, 1, 4, dtype=torch.bool))

    assert [part.share.item() for part in found.parts] == [0, 0]


def test_weights_travel_by_name():
    """The state is the weights by name, so an order of components or another component cannot mix them up."""
    loss = make()
    swapped = LossManager.create_loss_function({"type": "combined", "bce_weight": 0.5, "dice_weight": 0.5})
    swapped.load_state_dict(loss.state_dict())
    other = LossManager.create_loss_function({"type": "combined", "focal_weight": 0.5, "dice_weight": 0.5})

    assert swapped.weights == {"bce": 0.3, "dice": 0.7}
    with pytest.raises(RuntimeError, match="focal_weight"):
        other.load_state_dict(loss.state_dict())


def test_state_is_plain():
    """The state survives a safe `torch.load` and JSON, bit for bit."""
    loss, file = make(), io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    spelled = json.loads(json.dumps({name: value.item() for name, value in loss.state_dict().items()}))

    assert {"dice_weight": 0.7, "bce_weight": 0.3} == spelled
    assert {name: value.item() for name, value in loaded.items()} == spelled


def test_weights_can_be_written():
    """A new weight in the buffer counts from the next call on, and an old breakdown stays what it was."""
    loss, pred, target = make(), torch.randn(1, 1, 6), torch.ones(1, 1, 6)
    before = loss.break_down(pred, target)
    loss.dice_weight.fill_(0.0)
    loss.bce_weight.fill_(1.0)

    assert loss.weights == {"dice": 0, "bce": 1}
    torch.testing.assert_close(loss(pred, target), BCELoss()(pred, target))
    assert before.parts[0].weight.item() == 0.7


def test_mask_reaches_every_component():
    """Masking a combination masks all of it."""
    pred, target = torch.randn(2, 1, 8), torch.ones(2, 1, 8)
    mask = torch.arange(8).view(1, 1, 8).expand(2, 1, 8) < 5

    torch.testing.assert_close(make()(pred, target, mask=mask), make()(pred[..., :5], target[..., :5]))


def test_any_module_can_be_a_component():
    """A loss that knows nothing of ours takes part, keeps its state and explains itself."""
    loss = CombinedLoss({"acme:flat": Silent(2.0), "bce": BCELoss()}, {"acme:flat": 3, "bce": 1})
    pred, target = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)

    torch.testing.assert_close(loss(pred, target), 6 + BCELoss()(pred, target))
    assert "acme:flat_loss.seen" in loss.state_dict()
    assert "  acme:flat: silent\n    always" in loss.explain()
    assert list(loss.components) == ["acme:flat", "bce"]


def test_several_channels_without_a_loss_of_ours():
    """Where no component says how many channels it takes, it is not ours to refuse."""
    loss = CombinedLoss({"flat": Silent(2.0)}, {"flat": 1})

    assert loss(torch.zeros(1, 3, 4), torch.zeros(1, 3, 4)).item() == 2


def test_combinations_nest():
    """A combination is a loss, so it can be a component."""
    loss = LossManager.create_loss_function(
        {"type": "combined", "mode": "multilabel", "combined_weight": 0.5, "combined_config": {"dice_weight": 1}}
    )
    pred, target = torch.randn(2, 3, 6), torch.ones(2, 3, 6)

    torch.testing.assert_close(loss(pred, target), 0.5 * DiceLoss(mode="multilabel")(pred, target))


@pytest.mark.parametrize(
    ("components", "weights", "says"),
    [
        ({}, {}, "give one or more"),
        ({"dice": DiceLoss()}, {"bce": 1.0}, r"components are \['dice'\] but weights are \['bce'\]"),
        ({"dice": DiceLoss()}, {"dice": -1.0}, "dice_weight is -1.0"),
        ({"dice": DiceLoss()}, {"dice": 0.0}, "nothing would be learnt"),
        ({"dice": DiceLoss(reduction="none")}, {"dice": 1.0}, "reduction='none'"),
        ({"dice": DiceLoss(), "bce": BCELoss(mode="multilabel")}, {"dice": 1, "bce": 1}, "disagree about mode"),
        ({"dice": DiceLoss(), "bce": BCELoss(from_logits=False)}, {"dice": 1, "bce": 1}, "disagree about from_logits"),
        ({"dice": len}, {"dice": 1.0}, "derives from torch.nn.Module"),
        ({"a.b": DiceLoss()}, {"a.b": 1.0}, "dot in its name"),
    ],
)
def test_nonsense_is_refused(components, weights, says):
    """A combination that cannot be meant is an error when it is made."""
    with pytest.raises(LossConfigError, match=says):
        CombinedLoss(components, weights)


def test_component_with_many_numbers_is_refused():
    """A component that returns more than one number is named."""
    loss = CombinedLoss({"wide": Silent(torch.zeros(3))}, {"wide": 1.0})

    with pytest.raises(LossConfigError, match=r"component 'wide' returned \(3,\)"):
        loss(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"dice": float("nan")}, "dice_weight is nan"),
        ({"dice": -1}, "dice_weight is -1"),
        ({"dic": 1.0}, "Did you mean 'dice'"),
    ],
)
def test_weights_that_are_none_are_refused(weights, says):
    """What cannot be a weight is not written, nor is anything beside it."""
    loss = make()

    with pytest.raises(LossConfigError, match=says):
        loss.set_weights({"bce": 0.5, **weights})
    assert loss.weights == {"dice": 0.7, "bce": 0.3}


def test_weights_of_0_cannot_be_learnt():
    """No variance gives a weight of 0, so learning would begin at infinity."""
    loss = LossManager.create_loss_function({"type": "combined", "dice_weight": 1, "bce_weight": 0})

    with pytest.raises(LossConfigError, match=r"\['bce'\] have 0; leave such components out"):
        loss.learn_weights()


def test_options_of_nobody_are_no_options():
    """A combination made by hand takes what it knows and nothing else."""
    with pytest.raises(TypeError, match="label_smoothing"):
        CombinedLoss({"bce": BCELoss()}, {"bce": 1.0}, label_smoothing=0.5)


def test_losses_of_others_keep_their_precision():
    """Autocast is off for our sums alone: a component with layers of its own works in a combination as by itself."""

    class Edge(nn.Module):
        def __init__(self):
            super().__init__()
            self.filter = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, pred, target, *, mask=None):
            return (self.filter(pred) - self.filter(target)).square().mean()

        def explain(self):
            return "edges"

    loss = CombinedLoss({"dice": DiceLoss(), "edge": Edge()}, {"dice": 1.0, "edge": 1.0})
    pred, target = torch.randn(1, 1, 8, 8, dtype=torch.bfloat16), torch.ones(1, 1, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(pred, target)

    assert torch.isfinite(value)
