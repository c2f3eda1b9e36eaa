"""Losses trace as one graph, and new weights do not trace again."""

import pytest
import torch

from mlc_losses import LossManager, get_preset_loss_config


def make():
    """Return Dice and focal BCE with a pair of tensors."""
    draw = torch.Generator().manual_seed(2)
    pred = torch.randn(2, 1, 9, 7, generator=draw)
    config = {**get_preset_loss_config("focal_segmentation"), "check_inputs": False}
    return LossManager.create_loss_function(config), pred, (pred > 0.3).float()


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
