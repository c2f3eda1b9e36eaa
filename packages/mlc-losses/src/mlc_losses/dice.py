"""Region overlap: Dice and Jaccard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_flag
from mlc_losses.region import RegionLoss

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from mlc_losses.options import RegionOptions
    from mlc_losses.terms import RegionSums

__all__ = ["DiceLoss"]

LEAST_SMOOTH = 1e-20
"""What the logarithm's numerator is smoothed by at least: the inverse is a gradient that float32 has."""


class DiceLoss(RegionLoss):
    """Dice loss (Milletari et al. 2016), or with *jaccard* the Jaccard loss (Rahman and Wang 2016).

    With `p` the probabilities, `t` the target, `tp` their overlap and `s` the *smooth*:

    - Dice: `1 - (2·tp + s) / (Σp + Σt + s)`
    - Jaccard: `1 - (tp + s) / (Σp + Σt - tp + s)`

    `s` stands beside `2·tp` and the sum of both sizes for Dice: 3 true positives, 1 false positive, 2 false negatives
    and `s = 1` are a Dice of 7/10. For Jaccard it stands beside `tp` and the union. Libraries differ here; the same
    number elsewhere may be another loss.

    With *log* the loss is `-log` of the likeness instead of 1 minus it (Wong et al. 2018 with an exponent of 1), which
    punishes a missed region without bound. It wants a numerator that is smoothed.

    Args:
        jaccard: Intersection over union in place of Dice.
        log: The negative logarithm in place of the difference from 1.
        options: What every loss over regions takes; see `RegionLoss`.

    Raises:
        LossConfigError: If an option cannot be followed.
    """

    def __init__(self, *, jaccard: bool = False, log: bool = False, **options: Unpack[RegionOptions]) -> None:
        super().__init__(**options)
        self.jaccard = require_flag("jaccard", jaccard)
        self.log = require_flag("log", log)
        if log and self.smooth_nr < LEAST_SMOOTH:
            msg = (
                f"log=True with a smooth of {self.smooth_nr:g} has no finite gradient where nothing overlaps; "
                f"give a smooth (or smooth_nr) of {LEAST_SMOOTH:g} at least"
            )
            raise LossConfigError(msg)

    def ratio(self, regions: RegionSums) -> tuple[Tensor, Tensor]:
        """Return numerator and denominator of the likeness, without smoothing."""
        sizes = regions.size_p + regions.size_t
        return (regions.overlap, sizes - regions.overlap) if self.jaccard else (2 * regions.overlap, sizes)

    def lose(self, alike: Tensor) -> Tensor:
        """Return the loss of regions that are so much *alike*."""
        if not self.log:
            return 1 - alike
        return -torch.log(alike.clamp_min(torch.finfo(alike.dtype).tiny))

    def explain_formula(self) -> str:
        """Return the formula in use, in one line."""
        p, t = self.explain_sizes()
        ratio = f"(tp + s) / ({p} + {t} - tp + s)" if self.jaccard else f"(2·tp + s) / ({p} + {t} + s)"
        name = "Jaccard" if self.jaccard else "Dice"
        return f"Log-{name} loss = -log({ratio})" if self.log else f"{name} loss = 1 - {ratio}"

    def explain_different(self, different: str) -> str:
        """Return the loss of regions that are *different* by so much, which is 1 minus how much they are alike."""
        return f"-log(1 - {different})" if self.log else different
