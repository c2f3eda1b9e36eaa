"""Losses trace as one graph, and new weights do not trace again."""

import inspect

import pytest
import torch

from mlc_losses import BCELoss, CombinedLoss, CrossEntropyLoss, DiceLoss, LossManager, get_preset_loss_config


def make():
    """Return Dice and focal BCE with a pair of tensors."""
    draw = torch.Generator().manual_seed(2)
    pred = torch.randn(2, 1, 9, 7, generator=draw)
    config = {**get_preset_loss_config("focal_segmentation"), "check_inputs": False}
    return LossManager.create_loss_function(config), pred, (pred > 0.3).float()


def make_classes():
    """Return logits of three classes with class numbers."""
    draw = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, 9, 7, generator=draw), torch.randint(0, 3, (2, 9, 7), generator=draw)


def test_combined_loss_is_one_graph():
    """A compiled combination has no graph breaks, and is traced once for all weights."""
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    loss, pred, target = make()
    compiled = torch.compile(loss, fullgraph=True, backend=count)
    torch.testing.assert_close(compiled(pred, target), loss(pred, target))
    loss.dice_weight.fill_(0.1)
    torch.testing.assert_close(compiled(pred, target), loss(pred, target))

    assert len(graphs) == 1


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the tracer does it, not we
@pytest.mark.parametrize(
    "loss",
    [
        DiceLoss(mode="multiclass"),
        DiceLoss(mode="multiclass", squared_pred=True, ignore_index=1),
        CrossEntropyLoss(),
        CrossEntropyLoss(gamma=2.0, class_weights=(1.0, 2.0, 0.5), ignore_index=255),
        CombinedLoss({"d": DiceLoss(mode="multiclass"), "v": CrossEntropyLoss()}, {"d": 0.5, "v": 0.5}),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_losses_of_classes_are_one_graph(loss):
    """The way of few classes traces whole, with default options and others, and has the gradient of the eager one."""
    pred, target = make_classes()
    plain, traced = (pred.clone().requires_grad_() for _ in range(2))
    expected, value = loss(plain, target), torch.compile(loss, fullgraph=True, backend="aot_eager")(traced, target)
    expected.backward()
    value.backward()

    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(traced.grad, plain.grad)


@pytest.mark.parametrize(
    "loss",
    [DiceLoss(), BCELoss(), BCELoss(gamma=2.0, alpha=0.25)],
    ids=lambda loss: f"{type(loss).__name__} {loss.term}",
)
def test_losses_of_channels_are_one_graph(loss):
    """Losses of channels that stand alone trace whole, with the gradient of the eager ones."""
    _, pred, target = make()
    plain, traced = (pred.clone().requires_grad_() for _ in range(2))
    expected, value = loss(plain, target), torch.compile(loss, fullgraph=True, backend="aot_eager")(traced, target)
    expected.backward()
    value.backward()

    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(traced.grad, plain.grad)


@pytest.mark.skipif(
    "isolate_recompiles" not in inspect.signature(torch.compile).parameters,
    reason="this torch counts all losses as one",
)
def test_ten_losses_in_one_process():
    """Of losses that are each isolated no limit is shared, however many there are."""
    _, pred, target = make()
    losses = [BCELoss(gamma=one / 4, check_inputs=False) for one in range(10)]
    for loss in losses:
        compiled = torch.compile(loss, fullgraph=True, backend="eager", isolate_recompiles=True)

        torch.testing.assert_close(compiled(pred, target), loss(pred, target))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # the compiler's own imports
def test_generated_code_agrees():
    """What the default compiler makes of it has the value and the gradient of the plain loss."""
    loss, pred, target = make()
    plain, fast = (pred.clone().requires_grad_() for _ in range(2))
    mask = torch.ones_like(target, dtype=torch.bool)
    mask[0, 0, :3] = False
    expected, value = (
        loss(plain, target, mask=mask),
        torch.compile(loss, fullgraph=True)(fast, target, mask=mask),
    )
    expected.backward()
    value.backward()

    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(fast.grad, plain.grad)


def test_training_steps_with_components_are_one_graph():
    """A step that wants the parts of the loss, at one resolution or several, compiles too."""
    loss, pred, target = make()
    several = LossManager.create_loss_function(
        {**get_preset_loss_config("default_segmentation"), "deep_supervision": True}
    )
    outputs = [torch.randn(2, 1, 8, 8), torch.randn(2, 1, 4, 4)]
    for one, given in ((loss, (pred, target)), (several, (outputs, torch.ones(2, 1, 8, 8)))):
        found = torch.compile(one.get_loss_components, fullgraph=True, backend="aot_eager")(*given)

        torch.testing.assert_close(found, one.get_loss_components(*given))
    found = torch.compile(loss.break_down, fullgraph=True, backend="aot_eager")(pred, target)

    torch.testing.assert_close(found.total, loss.break_down(pred, target).total)
