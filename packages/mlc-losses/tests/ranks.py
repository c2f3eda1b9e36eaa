"""One of several processes that train together, as `test_distributed` starts them."""

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mlc_losses import LossManager

VOID = 255

LOSSES = {
    "bce": {"type": "bce", "mode": "multilabel"},
    "bce balanced": {"type": "bce", "mode": "multilabel", "alpha": "balanced", "label_smoothing": 0.1},
    "bce sum": {"type": "bce", "mode": "multilabel", "reduction": "sum"},
    "cross entropy": {"type": "cross_entropy", "class_weights": [1.0, 0.5, 2.0], "label_smoothing": 0.1},
    "cross entropy with void": {"type": "cross_entropy", "ignore_index": VOID},
    "dice": {"type": "dice", "mode": "multilabel"},
    "dice of the batch": {"type": "dice", "mode": "multilabel", "batch": True},
    "dice of the batch, present classes": {"type": "dice", "mode": "multiclass", "batch": True, "empty": "skip"},
    "dice, present classes": {"type": "dice", "mode": "multiclass", "empty": "skip"},
    "focal tversky": {"type": "focal_tversky", "mode": "multiclass", "batch": True},
    "generalized dice": {"type": "generalized_dice", "mode": "multiclass"},
    "generalized dice of the batch": {"type": "generalized_dice", "mode": "multiclass", "batch": True},
    "lovasz": {"type": "lovasz", "mode": "multiclass", "empty": "skip"},
    "combined": {
        "type": "combined",
        "mode": "multiclass",
        "ignore_index": VOID,
        "dice_weight": 0.6,
        "dice_config": {"batch": True},
        "tversky_weight": 0.3,
        "cross_entropy_weight": 0.4,
    },
    "deeply supervised": {
        "type": "combined",
        "dice_weight": 0.5,
        "dice_config": {"batch": True},
        "bce_weight": 0.5,
        "mode": "multilabel",
        "deep_supervision": True,
    },
}
SPLITS = {"equal": (2, 2), "unequal": (3, 1), "one has none": (4, 0)}
MASKS = ("none", "some", "one has nothing left", "nothing left", "weighted")
CASES = [
    (name, list(SPLITS)[(i + j) % len(SPLITS)], masked)
    for i, name in enumerate(LOSSES)
    for j, masked in enumerate(MASKS)
]


class Model(nn.Module):
    """A convolution, which gives two resolutions where that is asked for."""

    def __init__(self, *, levels):
        super().__init__()
        maker = torch.Generator().manual_seed(4)
        self.layer = nn.Conv2d(2, 3, 3, padding=1, dtype=torch.float64)
        self.levels = levels
        for one in self.parameters():
            one.data = torch.randn(one.shape, generator=maker, dtype=torch.float64)

    def forward(self, images):
        """Return logits, at full and half resolution if there are two levels."""
        found = self.layer(images)
        return [found, nn.functional.avg_pool2d(found, 2)] if self.levels == 2 else found


def make_batch(name, masked):
    """Return images, targets and what counts of four samples."""
    config = LOSSES[name]
    maker = torch.Generator().manual_seed(8)
    images = torch.randn(4, 2, 4, 6, generator=maker, dtype=torch.float64)
    if config.get("mode") == "multilabel":
        target = (torch.rand(4, 3, 4, 6, generator=maker) < 0.3).double()
        target[:2, 1] = 0
    else:
        target = torch.randint(0, 3, (4, 4, 6), generator=maker)
        target[:3][target[:3] == 2] = 0  # the last class is in the last sample alone
        if config.get("ignore_index") == VOID:
            target[:2, :2] = VOID
    mask = torch.rand(4, 1, 4, 6, generator=maker) < 0.6
    if masked == "one has nothing left":
        mask[3:] = False
    elif masked == "nothing left":
        mask[:] = False
    what_counts = {} if masked in {"none", "weighted"} else {"mask": mask}
    if masked == "weighted":
        what_counts = {"weight": torch.rand(4, 1, 4, 6, generator=maker, dtype=torch.float64)}
    return images, target, what_counts


def train(name, masked, rows, *, together):
    """Return the loss of some samples and the gradients of the model, over all processes if they are *together*."""
    options = {**LOSSES[name], "distributed": together}
    loss = LossManager.create_loss_function(options)
    model = Model(levels=2 if name == "deeply supervised" else 1)
    images, target, what_counts = make_batch(name, masked)
    given = {key: one[rows] for key, one in what_counts.items()}
    wrapped = DistributedDataParallel(model) if together else model  # which has to live until after the backward pass
    value = loss(wrapped(images[rows]), target[rows], **given)
    value.backward()
    return value.detach(), [one.grad for one in model.parameters()]


def differentiate_twice(rows, *, together):
    """Return the derivative of the sum of the gradient of a loss."""
    images, target, _ = make_batch("dice", "none")
    leaf = images[rows].repeat(1, 2, 1, 1)[:, :3].requires_grad_()
    loss = LossManager.create_loss_function({**LOSSES["dice of the batch"], "distributed": together})
    (gradient,) = torch.autograd.grad(loss(leaf, target[rows]), leaf, create_graph=True)
    return torch.autograd.grad(gradient.sum(), leaf)[0]


def run(rank, world, folder):
    """Train with every loss, split and mask, and save what came out."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    found = {}
    for name, split, masked in CASES:
        counts = SPLITS[split]
        rows = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
        found[name, split, masked] = train(name, masked, rows, together=True)
    found["twice"] = differentiate_twice(slice(3 * rank, 3 + rank), together=True)
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
