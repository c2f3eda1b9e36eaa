"""What holds for every loss, as tests to inherit."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from mlc_losses.protocols import Loss

__all__ = ["LossContract"]

FILLS = (0.0, 1.0)


class LossContract:
    """What holds for every segmentation loss. Subclass it and give the fixture `loss`, one that reads logits.

    A loss that compares places, not only values, says `voxels_are_exchangeable = False`; one whose gradient is not
    the derivative of its value, by design, `is_differentiable = False`.
    """

    channels = 1
    voxels_are_exchangeable = True
    is_differentiable = True

    @pytest.fixture
    def loss(self) -> Loss:
        """Return the loss; override this."""
        msg = "give the fixture loss"
        raise NotImplementedError(msg)

    def make_case(self, *sizes: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Return logits of two samples, the same in every run, and a mask with both values in every channel."""
        shape = (2, self.channels, *(sizes or (4, 5)))
        draw = torch.Generator().manual_seed(31)
        target = (torch.rand(shape, generator=draw) < 0.4).to(dtype)
        target[..., 0], target[..., 1] = 0, 1
        return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype), target

    def test_gives_one_finite_number(self, loss: Loss) -> None:
        """A loss of images and of volumes is a finite 0-dim tensor."""
        for sizes in ((4, 5), (3, 4, 5), (1, 2)):
            value = loss(*self.make_case(*sizes))

            assert value.dim() == 0
            assert torch.isfinite(value)

    def test_gradient_reaches_the_prediction(self, loss: Loss) -> None:
        """Every wrong prediction gets a finite gradient of its own shape and dtype."""
        pred, target = self.make_case()
        gradient = _gradient(loss, pred, target)

        assert (pred.shape, pred.dtype) == (gradient.shape, gradient.dtype)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0

    def test_gradient_is_the_derivative(self, loss: Loss) -> None:
        """In float64 the gradient agrees with finite differences, with and without a mask."""
        pred, target = self.make_case(2, 3, dtype=torch.float64)
        pred.requires_grad_()
        mask = self._draw_mask(pred)

        if self.is_differentiable:
            assert torch.autograd.gradcheck(lambda one: loss(one, target), [pred])
            assert torch.autograd.gradcheck(lambda one: loss(one, target, mask=mask), [pred])

    def test_better_costs_less(self, loss: Loss) -> None:
        """The right answer costs less than the wrong one."""
        _, target = self.make_case()

        assert loss(8 * (2 * target - 1), target) < loss(8 * (1 - 2 * target), target)

    def test_order_of_voxels_does_not_matter(self, loss: Loss) -> None:
        """Shuffling voxels, the same way on both sides, changes nothing but rounding."""
        pred, target = self.make_case(20, dtype=torch.float64)
        order = torch.randperm(20, generator=torch.Generator().manual_seed(7))

        if self.voxels_are_exchangeable:
            torch.testing.assert_close(loss(pred[:, :, order], target[:, :, order]), loss(pred, target))

    @pytest.mark.parametrize("fill", FILLS)
    @pytest.mark.parametrize("size", [1.0, 30.0, 1e4])
    def test_empty_and_full_masks_stay_finite(self, loss: Loss, fill: float, size: float) -> None:
        """Nothing but background and nothing but foreground are everyday masks, whatever the logits."""
        for sign in (-size, size):
            pred, target = self.make_case()
            pred, target = sign * (1 + pred.abs()), torch.full_like(target, fill)

            assert torch.isfinite(loss(pred, target))
            assert torch.isfinite(_gradient(loss, pred, target)).all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_does_not_overflow(self, loss: Loss, dtype: torch.dtype) -> None:
        """Sums over more voxels than float16 can count agree with those of the same numbers in float64."""
        pred, target = self.make_case(300, 300)
        pred = pred.to(dtype)
        value, expected = loss(pred, target.to(dtype)), loss(pred.double(), target.double())

        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)

    def test_masks_of_every_dtype_are_the_same_mask(self, loss: Loss) -> None:
        """A mask of bool, uint8, int64 or float32 gives the same bits."""
        pred, target = self.make_case()
        expected = loss(pred, target)

        for dtype in (torch.bool, torch.uint8, torch.int64):
            assert torch.equal(expected, loss(pred, target.to(dtype)))

    def test_inputs_stay_as_they_are(self, loss: Loss) -> None:
        """Neither the value nor the gradient writes into what it was given."""
        pred, target = self.make_case()
        mask = self._draw_mask(pred)
        before = [one.clone() for one in (pred, target, mask)]
        _gradient(loss, pred, target, mask)

        assert all(torch.equal(old, new) for old, new in zip(before, (pred, target, mask), strict=True))

    def test_mask_of_all_voxels_is_no_mask(self, loss: Loss) -> None:
        """To leave nothing out changes no bit of the value or of the gradient."""
        pred, target = self.make_case()
        everything = torch.ones_like(pred, dtype=torch.bool)

        assert torch.equal(loss(pred, target), loss(pred, target, mask=everything))
        assert torch.equal(_gradient(loss, pred, target), _gradient(loss, pred, target, everything))

    def test_ignoring_is_cropping(self, loss: Loss) -> None:
        """To ignore a slab is to cut it off: what is left is what the mean is over."""
        pred, target = self.make_case(5, 4, dtype=torch.float64)
        mask = torch.ones_like(pred, dtype=torch.bool)
        mask[:, :, :2] = False

        if self.voxels_are_exchangeable:
            torch.testing.assert_close(loss(pred, target, mask=mask), loss(pred[:, :, 2:], target[:, :, 2:]))

    @pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 255.0])
    def test_ignored_voxels_may_hold_anything(self, loss: Loss, poison: float) -> None:
        """What the mask leaves out changes no bit and gets a gradient of exactly 0."""
        pred, target = self.make_case()
        mask = self._draw_mask(pred)
        bad_pred, bad_target = torch.where(mask, pred, poison), torch.where(mask, target, poison)
        gradient = _gradient(loss, bad_pred, bad_target, mask)

        assert torch.equal(loss(pred, target, mask=mask), loss(bad_pred, bad_target, mask=mask))
        assert torch.equal(_gradient(loss, pred, target, mask), gradient)
        assert not gradient[~mask.expand_as(pred)].any()

    def test_nothing_left_is_zero_with_a_graph(self, loss: Loss) -> None:
        """When all is ignored the loss is 0, and the training step goes on with a gradient of 0."""
        pred, target = self.make_case()
        nothing = torch.zeros_like(pred, dtype=torch.bool)

        assert loss(pred, target, mask=nothing).item() == 0
        assert not _gradient(loss, pred, target, nothing).any()

    def test_second_backward_is_the_same(self, loss: Loss) -> None:
        """A graph that was kept gives the same gradient again."""
        pred, target = self.make_case()
        pred.requires_grad_()
        value = loss(pred, target)
        first, second = (torch.autograd.grad(value, pred, retain_graph=True)[0] for _ in range(2))

        assert torch.equal(first, second)

    def test_layout_does_not_matter(self, loss: Loss) -> None:
        """A tensor that is not contiguous gives what its contiguous copy gives."""
        pred, target = self.make_case(6, 8)

        torch.testing.assert_close(
            loss(pred[:, :, ::2, ::2], target[:, :, ::2, ::2]),
            loss(pred[:, :, ::2, ::2].contiguous(), target[:, :, ::2, ::2].contiguous()),
        )

    def test_state_travels(self, loss: Loss) -> None:
        """A copy that loads the state gives the same loss."""
        pred, target = self.make_case()
        twin = copy.deepcopy(loss)
        twin.load_state_dict(loss.state_dict())

        assert torch.equal(loss(pred, target), twin(pred, target))

    def test_explains_itself(self, loss: Loss) -> None:
        """A reader of a log can see which formula was in use."""
        assert loss.explain().strip()

    def _draw_mask(self, pred: Tensor) -> Tensor:
        mask = torch.rand(pred[:, :1].shape, generator=torch.Generator().manual_seed(5)) < 0.7
        mask[0, :, 0], mask[1, :, 1] = False, True
        return mask


def _gradient(loss: Loss, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    leaf = pred.detach().requires_grad_()  # the same memory: a loss that writes into it is found out
    (gradient,) = torch.autograd.grad(loss(leaf, target, mask=mask), leaf)
    return gradient
