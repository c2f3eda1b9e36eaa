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

    What a loss is for, and what does not hold for it by design, it says in attributes of the class.
    """

    channels = 1
    """Channels of the prediction."""
    labels = False
    """Whether targets are class numbers `(B, *spatial)`, and the channels share one probability."""
    voxels_are_exchangeable = True
    """Whether only values are compared, not places."""
    is_differentiable = True
    """Whether the gradient is the derivative of the value."""
    takes_weights = True
    """Whether there is a `weight` for each voxel."""
    scale_of_weights_matters = False
    """Whether twice the weight everywhere is another loss, as a smoothing term of some voxels makes it."""

    @pytest.fixture
    def loss(self) -> Loss:
        """Return the loss; override this."""
        msg = "give the fixture loss"
        raise NotImplementedError(msg)

    def make_case(self, *sizes: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Return logits of two samples, the same in every run, and a target with everything in every sample.

        That is a mask of *dtype* with both values in every channel, or class numbers with as many classes as fit.
        """
        sizes = sizes or (4, 5)
        shape = (2, self.channels, *sizes)
        draw = torch.Generator().manual_seed(31)
        if self.labels:
            target = torch.randint(0, self.channels, (2, *sizes), generator=draw)
            first = target.flatten(1)
            few = min(self.channels, first.shape[1])
            first[:, :few] = torch.arange(few)
        else:
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
        """In float64 the gradient agrees with finite differences, with and without a mask and weights."""
        pred, target = self.make_case(2, 3, dtype=torch.float64)
        pred.requires_grad_()
        mask, weight = self._draw_mask(pred), self._draw_weight(pred)

        if self.is_differentiable:
            assert torch.autograd.gradcheck(lambda one: loss(one, target), [pred])
            assert torch.autograd.gradcheck(lambda one: loss(one, target, mask=mask), [pred])
        if self.is_differentiable and self.takes_weights:
            assert torch.autograd.gradcheck(lambda one: loss(one, target, mask=mask, weight=weight), [pred])

    def test_better_costs_less(self, loss: Loss) -> None:
        """The right answer costs less than the wrong one."""
        pred, target = self.make_case()
        right = self._answer(pred, target)

        assert loss(right, target) < loss(-right, target)

    def test_order_of_voxels_does_not_matter(self, loss: Loss) -> None:
        """Shuffling voxels, the same way on both sides, changes nothing but rounding."""
        pred, target = self.make_case(20, dtype=torch.float64)
        order = torch.randperm(20, generator=torch.Generator().manual_seed(7))

        if self.voxels_are_exchangeable:
            torch.testing.assert_close(loss(pred[..., order], target[..., order]), loss(pred, target))

    @pytest.mark.parametrize("fill", FILLS)
    @pytest.mark.parametrize("size", [1.0, 30.0, 100.0, 1e4])
    def test_empty_and_full_masks_stay_finite(self, loss: Loss, fill: float, size: float) -> None:
        """Nothing but background and nothing but foreground are everyday masks, whatever the logits."""
        pred, target = self.make_case()
        target = torch.full_like(target, fill * (self.channels - 1 if self.labels else 1))

        for sign in (-size, size):
            for extreme in (sign * (1 + pred.abs()), sign * (1 + pred.abs()) * pred.sign()):
                assert torch.isfinite(loss(extreme, target))
                assert torch.isfinite(_gradient(loss, extreme, target)).all()

    def test_one_voxel_is_enough(self, loss: Loss) -> None:
        """The smallest image there is has a finite loss and gradient."""
        pred, target = (one[..., :1, :1] for one in self.make_case())

        assert torch.isfinite(loss(pred, target))
        assert torch.isfinite(_gradient(loss, pred, target)).all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_does_not_overflow(self, loss: Loss, dtype: torch.dtype) -> None:
        """Sums over more voxels than float16 can count agree with those of the same numbers in float64."""
        pred, target = self.make_case(300, 300)
        pred = pred.to(dtype)
        if self.labels:
            value, expected = loss(pred, target), loss(pred.double(), target)
        else:
            value, expected = loss(pred, target.to(dtype)), loss(pred.double(), target.double())

        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)

    def test_targets_of_every_dtype_are_the_same_target(self, loss: Loss) -> None:
        """A target of bool, uint8, int64 or float32 gives the same bits; class numbers are integers of any size."""
        pred, target = self.make_case()
        expected = loss(pred, target)

        for dtype in (torch.uint8, torch.int16, torch.int64) if self.labels else (torch.bool, torch.uint8, torch.int64):
            assert torch.equal(expected, loss(pred, target.to(dtype)))

    def test_inputs_stay_as_they_are(self, loss: Loss) -> None:
        """Neither the value nor the gradient writes into what it was given."""
        pred, target = self.make_case()
        mask, weight = self._draw_mask(pred), self._draw_weight(pred)
        before = [one.clone() for one in (pred, target, mask, weight)]
        _gradient(loss, pred, target, mask=mask)
        if self.takes_weights:
            _gradient(loss, pred, target, mask=mask, weight=weight)

        assert all(torch.equal(old, new) for old, new in zip(before, (pred, target, mask, weight), strict=True))

    def test_mask_of_all_voxels_is_no_mask(self, loss: Loss) -> None:
        """To leave nothing out changes no bit of the value or of the gradient."""
        pred, target = self.make_case()
        everything = torch.ones_like(pred[:, :1] if self.labels else pred, dtype=torch.bool)

        assert torch.equal(loss(pred, target), loss(pred, target, mask=everything))
        assert torch.equal(_gradient(loss, pred, target), _gradient(loss, pred, target, mask=everything))

    def test_ignoring_is_cropping(self, loss: Loss) -> None:
        """To ignore a slab is to cut it off: what is left is what the mean is over."""
        pred, target = self.make_case(5, 4, dtype=torch.float64)
        mask = torch.ones_like(pred[:, :1], dtype=torch.bool)
        mask[:, :, :2] = False

        if self.voxels_are_exchangeable:
            torch.testing.assert_close(loss(pred, target, mask=mask), loss(pred[..., 2:, :], target[..., 2:, :]))

    @pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 255.0])
    def test_ignored_voxels_may_hold_anything(self, loss: Loss, poison: float) -> None:
        """What the mask leaves out changes no bit and gets a gradient of exactly 0."""
        pred, target = self.make_case()
        mask = self._draw_mask(pred)
        bad_pred, bad_target = self._poison(pred, target, mask, poison)
        gradient = _gradient(loss, bad_pred, bad_target, mask=mask)

        assert torch.equal(loss(pred, target, mask=mask), loss(bad_pred, bad_target, mask=mask))
        assert torch.equal(_gradient(loss, pred, target, mask=mask), gradient)
        assert not gradient[~mask.expand_as(pred)].any()

    def test_nothing_left_is_zero_with_a_graph(self, loss: Loss) -> None:
        """When all is ignored the loss is 0, and the training step goes on with a gradient of 0."""
        pred, target = self.make_case()
        nothing = torch.zeros_like(pred[:, :1], dtype=torch.bool)

        assert loss(pred, target, mask=nothing).item() == 0
        assert not _gradient(loss, pred, target, mask=nothing).any()

    def test_weight_of_one_is_no_weight(self, loss: Loss) -> None:
        """To weigh all voxels alike changes nothing but rounding in the value and in the gradient."""
        pred, target = self.make_case(dtype=torch.float64)
        alike = torch.ones_like(pred[:, :1])

        if self.takes_weights:
            torch.testing.assert_close(loss(pred, target, weight=alike), loss(pred, target), rtol=1e-12, atol=1e-14)
            torch.testing.assert_close(
                _gradient(loss, pred, target, weight=alike), _gradient(loss, pred, target), rtol=1e-10, atol=1e-14
            )

    @pytest.mark.parametrize("poison", [float("nan"), float("inf"), 255.0])
    def test_weight_of_zero_is_a_mask(self, loss: Loss, poison: float) -> None:
        """A voxel of weight 0 does not count, whatever it holds, and gets a gradient of exactly 0."""
        pred, target = self.make_case(dtype=torch.float64)
        mask = self._draw_mask(pred)
        weight = mask.to(pred.dtype)

        if self.takes_weights:
            bad_pred, bad_target = self._poison(pred, target, mask, poison)
            gradient = _gradient(loss, bad_pred, bad_target, weight=weight)

            torch.testing.assert_close(loss(bad_pred, bad_target, weight=weight), loss(pred, target, mask=mask))
            torch.testing.assert_close(gradient, _gradient(loss, pred, target, mask=mask))
            assert not gradient[~mask.expand_as(pred)].any()

    def test_nothing_of_weight_is_zero_with_a_graph(self, loss: Loss) -> None:
        """Where all weights are 0 the loss is 0, as where all is ignored."""
        pred, target = self.make_case()
        nothing = torch.zeros_like(pred[:, :1])

        if self.takes_weights:
            assert loss(pred, target, weight=nothing).item() == 0
            assert not _gradient(loss, pred, target, weight=nothing).any()

    def test_weight_is_a_number_of_voxels(self, loss: Loss) -> None:
        """A voxel of weight 3 counts as three such voxels, in the value and in the gradient."""
        pred, target = self.make_case(4, dtype=torch.float64)
        times = torch.tensor([1, 3, 2, 1])
        weight = times.to(pred.dtype).expand(2, 1, 4)

        if self.takes_weights and self.voxels_are_exchangeable:
            copies = [one.repeat_interleave(times, -1) for one in (pred, target)]
            whose = torch.arange(4).repeat_interleave(times)
            gradient = torch.zeros_like(pred).index_add_(-1, whose, _gradient(loss, *copies))

            torch.testing.assert_close(loss(pred, target, weight=weight), loss(*copies))
            torch.testing.assert_close(_gradient(loss, pred, target, weight=weight), gradient)

    def test_scale_of_weights_does_not_matter(self, loss: Loss) -> None:
        """Only ratios of weights count, but for what a smoothing of next to nothing makes of them."""
        pred, target = self.make_case(dtype=torch.float64)
        weight = self._draw_weight(pred)

        if self.takes_weights and not self.scale_of_weights_matters:
            torch.testing.assert_close(
                loss(pred, target, weight=8 * weight), loss(pred, target, weight=weight), rtol=1e-5, atol=1e-6
            )

    def test_second_backward_is_the_same(self, loss: Loss) -> None:
        """A graph that was kept gives the same gradient again."""
        pred, target = self.make_case()
        pred.requires_grad_()
        value = loss(pred, target)
        first, second = (torch.autograd.grad(value, pred, retain_graph=True)[0] for _ in range(2))

        assert torch.equal(first, second)

    def test_layout_does_not_matter(self, loss: Loss) -> None:
        """A tensor that is not contiguous, or has its channels last, gives what its contiguous copy gives."""
        pred, target = self.make_case(6, 8)
        some_pred, some_target = pred[..., ::2, ::2], target[..., ::2, ::2]
        expected = loss(some_pred.contiguous(), some_target.contiguous())
        gradient = _gradient(loss, some_pred.contiguous(), some_target.contiguous())

        for layout in (some_pred, some_pred.contiguous(memory_format=torch.channels_last)):
            torch.testing.assert_close(loss(layout, some_target), expected)
            torch.testing.assert_close(_gradient(loss, layout, some_target), gradient)

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

    def _draw_weight(self, pred: Tensor) -> Tensor:
        drawn = torch.rand(pred[:, :1].shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64) + 0.5
        return drawn.to(pred.dtype)

    def _answer(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return logits that are sure of *target*."""
        if not self.labels:
            return 8 * (2 * target - 1)
        classes = torch.arange(self.channels).view(1, -1, *[1] * (target.dim() - 1))
        return 8 * (2 * (target.unsqueeze(1) == classes).to(pred.dtype) - 1)

    def _poison(self, pred: Tensor, target: Tensor, mask: Tensor, poison: float) -> tuple[Tensor, Tensor]:
        """Return both with *poison* where *mask* is false, or with a class that there is not."""
        bad = torch.where(mask[:, 0], target, 255) if self.labels else torch.where(mask, target, poison)
        return torch.where(mask, pred, poison), bad


def _gradient(loss: Loss, pred: Tensor, target: Tensor, **what_counts: Tensor) -> Tensor:
    leaf = pred.detach().requires_grad_()  # the same memory: a loss that writes into it is found out
    (gradient,) = torch.autograd.grad(loss(leaf, target, **what_counts), leaf)
    return gradient
