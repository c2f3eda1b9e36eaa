"""When it is enough: a metric that does not get better any more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mlc_hooks.hints import known_names, nearest
from mlc_trainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_trainer.config import EarlyStoppingConfig

__all__ = ["EarlyStopping"]


class EarlyStopping:
    """Counts the epochs since a metric was best; goes on counting where it was after a restart."""

    def __init__(self, config: EarlyStoppingConfig) -> None:
        self._config = config
        self._sign = 1.0 if config.mode == "max" else -1.0
        self._best: float | None = None
        self._waited = 0

    @property
    def reason(self) -> str | None:
        """Why training should end, or None."""
        config = self._config
        if self._waited < config.patience:
            return None
        if self._best is None:
            return f"{config.metric} has been no number for {self._waited} epochs"
        return f"{config.metric} has not got better than {self._best:.6g} for {self._waited} epochs"

    def epoch_ended(self, metrics: Mapping[str, float]) -> None:
        """Take in what an epoch came to; what is NaN is not better.

        Raises:
            ConfigError: If the metric was not measured.
        """
        name = self._config.metric
        if name not in metrics:
            hint = f"{nearest(name, metrics)} {known_names('Measured', metrics)}"
            msg = f"early_stopping.metric = {name!r} was not measured.{hint}"
            raise ConfigError(msg)
        value = metrics[name]
        if self._is_better(value):
            self._best, self._waited = value, 0
        else:
            self._waited += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and how long ago it was."""
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from *state*."""
        self._best, self._waited = state["best"], state["waited"]

    def _is_better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        return self._best is None or self._sign * (value - self._best) > self._config.min_delta
