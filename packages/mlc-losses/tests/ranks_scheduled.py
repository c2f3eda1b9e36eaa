"""One of several processes whose loss is scheduled, as `test_scheduler` starts them."""

import torch
from torch import distributed

from mlc_losses import LossManager, get_preset_loss_config

WORLD = 2


def make():
    """Return the default preset and its scheduler, for several processes."""
    loss = LossManager.create_loss_function({**get_preset_loss_config("default_segmentation"), "check_inputs": False})
    return loss, LossManager.create_loss_scheduler(loss, {"type": "adaptive", "distributed": True})


def batch(seed):
    """Return logits that learn and their target."""
    generator = torch.Generator().manual_seed(seed)
    pred = torch.randn(2, 1, 4, 4, generator=generator, requires_grad=True)
    return pred, (pred > 0.3).float()


def run(rank, folder):
    """Train on batches of one's own, of which one fails, then all, and save the weights of each epoch."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    loss, scheduler = make()
    found = []
    for epoch in range(3):
        pred, target = batch(10 * epoch + rank)
        spoilt = (epoch == 1 and rank == 1) or epoch == 2
        loss(pred * float("nan") if spoilt else pred, target)
        found.append((scheduler.step(epoch, {"val_dice": 0.1 * rank}), scheduler.skipped))
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
