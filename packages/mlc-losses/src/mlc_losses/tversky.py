"""Region overlap with a price for each kind of mistake: Tversky and focal Tversky."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlc_losses.errors import LossConfigError
from mlc_losses.options import require_number
from mlc_losses.region import RegionLoss

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Unpack

    from mlc_losses.options import RegionOptions
    from mlc_losses.terms import RegionSums

__all__ = ["TverskyLoss"]


class TverskyLoss(RegionLoss):
    """Tversky loss (Salehi et al. 2017), with *gamma* the focal Tversky loss (Abraham and Khan 2019).

    With `tp` the overlap, `fp = Σp - tp` and `fn = Σt - tp`:

    `(1 - (tp + s) / (tp + alpha·fp + beta·fn + s))^gamma`

    *alpha* is the price of false positives and *beta* that of false negatives, as in Salehi; Abraham and Khan call
    them the other way round. 3 true positives, 1 false positive, 2 false negatives with 0.3 and 0.7 are a likeness of
    3/4.7. With 0.5 and 0.5 it is Dice at twice the *smooth*, with 1 and 1 it is Jaccard.

    The power is taken of each region, before the mean. *gamma* is the exponent itself: below 1 what is nearly right
    counts more. Abraham and Khan write `1/gamma` and use 4/3, which is 0.75 here. A region that is right to
    `1e-7` has a gradient of 0, since that of the power would be infinite at 0.

    *squared_pred* wants an *alpha* that equals *beta*: `alpha·(Σp² - tp) + beta·(Σt² - tp)` can otherwise be below 0,
    which makes 0.9 better than 1 where the target is 1.

    Args:
        alpha: Price of false positives, at least 0.
        beta: Price of false negatives, at least 0, not both 0.
        gamma: Exponent, above 0.
        options: What every loss over regions takes; see `RegionLoss`.

    Raises:
        LossConfigError: If an option cannot be followed.
    """

    def __init__(
        self, *, alpha: float = 0.3, beta: float = 0.7, gamma: float = 1.0, **options: Unpack[RegionOptions]
    ) -> None:
        super().__init__(**options)
        self.alpha = require_number("alpha", alpha)
        self.beta = require_number("beta", beta)
        self.gamma = require_number("gamma", gamma)
        if self.alpha == self.beta == 0:
            msg = "alpha and beta are both 0, so no mistake has a price; give one above 0"
            raise LossConfigError(msg)
        if self.gamma == 0:
            msg = "gamma is 0, which makes every loss 1; give an exponent above 0, 1 for the plain Tversky loss"
            raise LossConfigError(msg)
        if self.term.squared and self.alpha != self.beta:
            msg = (
                "squared_pred=True with an alpha that is not beta is least beside the target; give both the same price"
            )
            raise LossConfigError(msg)
        if self.beta == self.smooth_dr == 0:
            msg = "beta=0 with smooth=0 is 0/0 where nothing is predicted; give a beta or a smooth above 0"
            raise LossConfigError(msg)

    def ratio(self, regions: RegionSums) -> tuple[Tensor, Tensor]:
        """Return numerator and denominator of the likeness, without smoothing."""
        invented, missed = regions.size_p - regions.overlap, regions.size_t - regions.overlap
        return regions.overlap, regions.overlap + self.alpha * invented + self.beta * missed

    def lose(self, alike: Tensor) -> Tensor:
        """Return the loss of regions that are so much *alike*."""
        different = 1 - alike
        if self.gamma == 1:
            return different
        least = torch.finfo(torch.float32).eps
        return torch.where(different > least, different.clamp_min(least) ** self.gamma, 0)

    def explain_formula(self) -> str:
        """Return the formula in use, in one line."""
        p, t = self.explain_sizes()
        ratio = f"(tp + s) / (tp + {self.alpha:g}·({p} - tp) + {self.beta:g}·({t} - tp) + s)"
        if self.gamma == 1:
            return f"Tversky loss = 1 - {ratio}"
        return f"Focal Tversky loss = (1 - {ratio})^{self.gamma:g}"

    def explain_different(self, different: str) -> str:
        """Return the loss of regions that are *different* by so much, which is 1 minus how much they are alike."""
        return different if self.gamma == 1 else f"{different}^{self.gamma:g}"
