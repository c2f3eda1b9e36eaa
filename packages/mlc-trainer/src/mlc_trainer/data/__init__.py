"""Batches in an order that is a function of seed, epoch and position."""

from mlc_trainer.data.batches import Batches, DataModule
from mlc_trainer.data.order import BatchPlan, epoch_order

__all__ = ["BatchPlan", "Batches", "DataModule", "epoch_order"]
