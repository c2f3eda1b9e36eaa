"""The learning rate of every group of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_trainer.engine import Engine, Position
    from mlc_trainer.observers.protocol import RunRecord

__all__ = ["LearningRates"]


class LearningRates:
    """Logs the rate of each group of the optimizer as `lr_0`, `lr_1` and so on, or by the group's `name`."""

    def run_started(self, run: RunRecord, position: Position) -> None:
        """Do nothing."""

    def batch_awaited(self, position: Position) -> None:
        """Do nothing."""

    def step_began(self, position: Position, samples: int) -> None:
        """Do nothing."""

    def step_ended(self, position: Position) -> None:
        """Do nothing."""

    def numbers(self, engine: Engine, values: Mapping[str, float]) -> Mapping[str, float]:
        """Return the rates of the next step."""
        groups = engine.optimizer.param_groups
        return {f"lr_{one.get('name', number)}": float(one["lr"]) for number, one in enumerate(groups)}

    def step_logged(self, position: Position, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def epoch_ended(self, position: Position, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def rolled_back(self, position: Position) -> None:
        """Do nothing."""

    def checkpoint_saved(self, position: Position, location: str) -> None:
        """Do nothing."""

    def run_ended(self, position: Position, error: BaseException | None) -> None:
        """Do nothing."""
