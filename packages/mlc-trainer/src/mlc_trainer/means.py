"""The means of an epoch, added up step by step without waiting for the device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from mlc_trainer.errors import NonFiniteLossError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["ADVICE", "RunningMeans"]

ADVICE = "Lower the learning rate, set training.clip_norm, or look at the data"


class RunningMeans:
    """Weighted sums of named values in float64; on the CPU, where nothing has to be waited for, plain numbers."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.at_once = device.type == "cpu"
        """Whether a look at them waits for nothing."""
        self._sums: dict[str, float] | dict[str, Tensor] = {}
        self._samples = 0

    @property
    def samples(self) -> int:
        """How many samples were added up."""
        return self._samples

    def add(self, values: Mapping[str, Tensor], samples: int) -> None:
        """Add *values*, the means of so many *samples*."""
        sums: Any = self._sums
        if self.at_once:
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value.item() * samples
        else:
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value.double() * samples
        self._samples += samples

    def means(self) -> dict[str, float]:
        """Return the mean of each value over all samples; waits for the device."""
        return {name: float(total) / self._samples for name, total in self._sums.items()}

    def require_finite(self, name: str, *, epoch: int, step: int) -> None:
        """Make sure that all values of *name* were finite up to *step* of *epoch*; waits for the device.

        Raises:
            NonFiniteLossError: If one was not.
        """
        total = float(self._sums.get(name, 0.0))
        if not math.isfinite(total):
            what = f"the training {name} of epoch {epoch} is {total} by step {step}"
            msg = f"{what}; the last checkpoint is from before. {ADVICE}"
            raise NonFiniteLossError(msg)

    def clear(self) -> None:
        """Begin anew."""
        self._sums, self._samples = {}, 0

    def state_dict(self) -> dict[str, Any]:
        """Return sums and samples as plain numbers."""
        return {"sums": {name: float(total) for name, total in self._sums.items()}, "samples": self._samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from *state*."""
        self._samples = state["samples"]
        if self.at_once:
            self._sums = dict(state["sums"])
        else:
            sums = state["sums"].items()
            self._sums = {name: torch.tensor(total, dtype=torch.float64, device=self._device) for name, total in sums}
