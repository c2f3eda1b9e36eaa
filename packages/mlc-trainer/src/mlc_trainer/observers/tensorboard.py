"""Curves in TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlc_trainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_trainer.engine import Position
    from mlc_trainer.observers.protocol import RunRecord

__all__ = ["TensorBoard"]


class TensorBoard:
    """Writes losses, rates and metrics to `tensorboard/` in the run's directory; a restart overwrites what it repeats.

    Raises:
        ConfigError: If TensorBoard is not installed.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            msg = "this tracker needs TensorBoard: pip install 'mlc-trainer[tensorboard]'"
            raise ConfigError(msg) from error
        self._make = SummaryWriter

    def run_started(self, run: RunRecord, position: Position) -> None:
        """Open the directory, and let what happened after *position* not count any more."""
        self._directory = str(run.directory / "tensorboard")
        self._open(position)

    def step_ended(self, position: Position) -> None:
        """Write nothing."""

    def step_logged(self, position: Position, values: Mapping[str, float]) -> None:
        """Write the values of a step, each under `step/`."""
        self._write("step", position, values)

    def epoch_ended(self, position: Position, metrics: Mapping[str, float]) -> None:
        """Write the metrics of an epoch, each under `epoch/`."""
        self._write("epoch", position, metrics)
        self._writer.flush()

    def rolled_back(self, position: Position) -> None:
        """Let what happened after *position* not count any more."""
        self._writer.close()
        self._open(position)

    def checkpoint_saved(self, position: Position, location: str) -> None:
        """Write nothing."""

    def run_ended(self, position: Position, error: BaseException | None) -> None:
        """Close the files."""
        self._writer.close()

    def _open(self, position: Position) -> None:
        self._writer: Any = self._make(self._directory, purge_step=position.step + 1)

    def _write(self, group: str, position: Position, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, position.step)
