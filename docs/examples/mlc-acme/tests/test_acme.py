"""The contracts that MLC ships for authors, and the parts in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from mlc_core import CheckpointManager, SaveStrategy, Storage, open_storage, save_strategies
from mlc_core.testing import SaveStrategyContract, StorageContract
from mlc_hooks.testing import PluginContract
from mlc_losses import Loss, LossManager, LossSchedule, get_preset_loss_config, loss_schedules, losses
from mlc_losses.testing import LossContract, ScheduleContract
from mlc_registry import Promotion, PromotionCheck, Tracking, promotion_checks
from mlc_registry.testing import PromotionCheckContract, make_promotion

if TYPE_CHECKING:
    from pathlib import Path


class TestManners(PluginContract):
    """The plugin is found, fits, is light, and explains itself."""

    @pytest.fixture
    def plugin_name(self) -> str:
        """Return the name of the distribution."""
        return "mlc-acme"


class TestPlateau(SaveStrategyContract):
    """The strategy keeps its promises."""

    @pytest.fixture
    def strategy(self) -> SaveStrategy:
        """Return one with its defaults."""
        return save_strategies().make("plateau")


class TestPricedOverlap(LossContract):
    """The loss keeps its promises."""

    scale_of_weights_matters = True  # the 1 in its formula stands for a voxel

    @pytest.fixture
    def loss(self) -> Loss:
        """Return one with its defaults."""
        return losses().make("priced_overlap")


class TestRotation(ScheduleContract):
    """The schedule keeps its promises."""

    @pytest.fixture
    def schedule(self) -> LossSchedule:
        """Return one with its defaults."""
        return loss_schedules().make("rotation")


class TestSqlite(StorageContract):
    """The storage keeps its promises."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        """Return an empty one."""
        return open_storage(f"sqlite://{tmp_path}/checkpoints.db/unet")


class TestTrainedOn(PromotionCheckContract):
    """The check keeps its promises."""

    @pytest.fixture
    def check(self) -> PromotionCheck:
        """Return one for our data."""
        return promotion_checks().make("trained_on", dataset="brains")

    @pytest.fixture
    def fine(self) -> Promotion:
        """Any version of our data will do."""
        return make_promotion(tracking=Tracking(dataset="brains@2"))

    @pytest.fixture
    def bad(self) -> Promotion:
        """These are other data."""
        return make_promotion(tracking=Tracking(dataset="brains-of-mice@2"))


def test_rotation_hands_the_weights_on() -> None:
    """After two epochs the other component has the weight; after two more it has it back."""
    loss = LossManager.create_loss_function(get_preset_loss_config("default_segmentation"))
    scheduler = LossManager.create_loss_scheduler(loss, {"type": "rotation", "params": {"every": 2}})
    seen = []
    for epoch in range(4):
        scheduler.step(epoch)
        seen.append(loss.weights["dice"])

    assert [0.7, 0.3, 0.3, 0.7] == seen


def test_the_parts_work_together(tmp_path: Path) -> None:
    """A model trained with the loss is saved at a plateau into the file, and comes back after a restart."""
    place = f"sqlite://{tmp_path}/all.db"
    torch.manual_seed(0)
    model = torch.nn.Conv2d(1, 1, 3, padding=1)
    loss = LossManager.create_loss_function({"type": "combined", "priced_overlap_weight": 0.7, "bce_weight": 0.3})
    loss(model(torch.randn(2, 1, 8, 8)), torch.ones(2, 1, 8, 8)).backward()
    manager = CheckpointManager(place, "unet", save_strategy="plateau", monitor_metric="dice", mode="max")
    saved = [manager.save_checkpoint(model, epoch=epoch, metrics={"dice": 0.8}) for epoch in range(1, 6)]

    assert [None, None, f"{place}/unet/epoch_3", None, None] == saved

    other = torch.nn.Conv2d(1, 1, 3, padding=1)
    again = CheckpointManager(place, "unet", save_strategy="plateau", monitor_metric="dice", mode="max")
    again.load_checkpoint("best", other)

    assert torch.equal(model.weight, other.weight)
    assert again.save_checkpoint(model, epoch=6, metrics={"dice": 0.8}) is None, "it remembers the plateau"
