"""What the README shows is what happens."""

import re
from pathlib import Path

import pytest
import torch

from mlc_losses import LossManager, get_preset_loss_config
from mlc_losses.presets import PRESETS

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_python_blocks_run():
    """The blocks run from top to bottom, as a reader would."""
    names = {"__name__": "readme"}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)

    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("name", PRESETS)
def test_presets_weigh_what_the_table_says(name):
    """At the start of training, on 10 % foreground, BCE has the documented part of the value and of the gradient."""
    row = re.search(rf"\| `{name}` \|.*?(\d+) % \| (\d+) % \|$", README, re.MULTILINE)
    draw = torch.Generator().manual_seed(0)
    pred = (0.1 * torch.randn(4, 1, 100, 100, generator=draw)).requires_grad_()
    target = (torch.arange(100) < 10).expand(4, 1, 100, 100)
    loss = LossManager.create_loss_function(get_preset_loss_config(name))
    value = loss.break_down(pred, target).parts[1].share
    sizes = {
        part: loss.weights[part] * torch.autograd.grad(one(pred, target), pred)[0].norm()
        for part, one in loss.components.items()
    }
    gradient = sizes["bce"] / sum(sizes.values())

    assert [int(one) for one in row.groups()] == [round(100 * value.item()), round(100 * gradient.item())]
