"""What is measured on validation data after every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from mlc_trainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

__all__ = ["DiceScore", "Metric", "as_number"]


def as_number(name: str, value: object) -> float:
    """Return the *value* of the metric *name* as a plain number; waits for the device if it is a tensor.

    Raises:
        ConfigError: If it is none.
    """
    cause: Exception | None = None
    if not isinstance(value, str):  # float("0.9") is a number, and "0.9" in a metric is a mistake
        try:
            return float(value)  # type: ignore[arg-type]  # which is asked here
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            cause = error
    what = f"a tensor {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
    msg = f"the metric {name!r} is {what}, and must be one number; leave it out, or make a number of it"
    raise ConfigError(msg) from cause


class Metric(Protocol):
    """Collects over batches, then says the numbers. A new one is made for every pass over the data."""

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Take in one batch: what the model returned, and the truth."""

    def compute(self) -> Mapping[str, float]:
        """Return the numbers by name."""


class DiceScore:
    """The Dice coefficient of each channel over all voxels seen, and their mean (Dice 1945; Sørensen 1948).

    ``2·|A∩B| / (|A|+|B|)``, where A is where the logit is above 0 and B is where the target is 1. A channel that is
    empty in both has the score 1. Counts are integers, so the numbers do not depend on the order of batches.

    Args:
        classes: A name for each channel; the numbers are called `dice_<name>`, their mean `dice`. Unless said, the
            first batch says how many there are, and they are counted from 1.

    Raises:
        ConfigError: If there is none, or one twice.
    """

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        self._classes = None if classes is None else tuple(classes)
        if self._classes is not None and (not self._classes or len(set(self._classes)) < len(self._classes)):
            msg = f"classes = {list(self._classes)} must be one or more names, each once"
            raise ConfigError(msg)
        self._both = self._either = torch.zeros((), dtype=torch.int64)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Take in logits and a target of 0 and 1, each `(B, C, *spatial)`.

        Raises:
            ConfigError: If the channels are not the classes, or the shapes differ.
        """
        if self._classes is None and prediction.ndim > 1:
            self._classes = tuple(str(number + 1) for number in range(prediction.shape[1]))
        classes = self._classes or ()
        if prediction.shape != target.shape or prediction.shape[1:2] != (len(classes),):
            msg = (
                f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must agree, with a channel for "
                f"each of {len(classes)} classes ({', '.join(classes)})"
            )
            raise ConfigError(msg)
        over = (0, *range(2, prediction.ndim))
        found, truth = prediction > 0, target > 0.5
        self._both = self._both + (found & truth).sum(over).cpu()
        self._either = self._either + (found.sum(over) + truth.sum(over)).cpu()

    def compute(self) -> Mapping[str, float]:
        """Return the score of each class and the mean."""
        names = self._classes or ()
        both, either = self._both.expand(len(names)).tolist(), self._either.expand(len(names)).tolist()
        scores = [2 * hits / all_of_it if all_of_it else 1.0 for hits, all_of_it in zip(both, either, strict=True)]
        named = {f"dice_{name}": score for name, score in zip(names, scores, strict=True)}
        return {"dice": sum(scores) / len(scores), **named} if scores else {}
