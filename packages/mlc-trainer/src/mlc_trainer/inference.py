"""Arrays in, predictions out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mlc_trainer import assembly
from mlc_trainer.data.batches import SeededDataset
from mlc_trainer.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from mlc_trainer.config import ExperimentConfig

__all__ = ["activate", "load_inputs", "write_output"]


def load_inputs(path: Path | None, config: ExperimentConfig) -> Tensor:
    """Return the array at *path* `(N, C, …)` as float32, or all validation inputs of the run.

    Raises:
        ConfigError: If the file is no array of numbers.
    """
    if path is None:
        validation = assembly.make_data(config.data).validation()
        seeded = SeededDataset(validation, config.training.seed)
        return torch.stack([seeded[0, index][0] for index in range(len(validation))])
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError, OverflowError) as error:
        msg = f"{path} is not a .npy file with an array of numbers: {error}"
        raise ConfigError(msg) from error
    if array.dtype.kind not in "biuf":
        msg = f"{path} holds {array.dtype}, which is no number that a model takes"
        raise ConfigError(msg)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def activate(prediction: Tensor, name: str) -> Tensor:
    """Return *prediction* `(N, C, …)` after `sigmoid`, `softmax` or `argmax` over channels, or as it is.

    Raises:
        ConfigError: If there are no channels to choose among.
    """
    if name in {"softmax", "argmax"} and prediction.ndim < 2:
        msg = f"{name} is over channels, and the prediction {tuple(prediction.shape)} has none"
        raise ConfigError(msg)
    if name == "sigmoid":
        return prediction.sigmoid()
    if name == "softmax":
        return prediction.softmax(1)
    return prediction.argmax(1) if name == "argmax" else prediction


def write_output(path: Path, prediction: Tensor) -> None:
    """Write *prediction* as a .npy file.

    Raises:
        ConfigError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.save(file, prediction.numpy())
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        raise ConfigError(msg) from error
