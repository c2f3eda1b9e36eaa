"""Averages of the weights, which often measure better than the weights themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_avg_fn

from mlc_trainer.randomness import RENEW, mix, seed_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor
    from torch.distributed.tensor import DTensor

    from mlc_core import CheckpointReader
    from mlc_trainer.config import TrainingConfig

__all__ = ["AverageOfShards", "MeanOfEpochs", "average", "is_averaged"]


def average(model: nn.Module, decay: float, *, twin: nn.Module | None = None) -> AveragedModel:
    """Return a copy of *model* that follows it: ``average = decay·average + (1 - decay)·weights`` after every step.

    Buffers, as of batch normalisation, are those of the model (Polyak and Juditsky 1992; Tarvainen and Valpola 2017).
    Of a model in shards, which cannot be copied, the copy is its *twin*, sharded alike.
    """
    follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(model, multi_avg_fn=follow) if twin is None else AverageOfShards(twin, follow)
    averaged.requires_grad_(False)  # noqa: FBT003 - torch's own spelling
    return averaged


class AverageOfShards(AveragedModel):
    """The average of a model in shards: each process has its shard of that, too, and averages it by itself.

    An average is taken element by element, so that shards have the bits of the whole.

    Args:
        twin: A copy of the model, sharded as it is.
        follow: Moves the averages, given the weights; the equal mean of all unless said.
    """

    def __init__(self, twin: nn.Module, follow: Callable[..., None] | None = None) -> None:
        super().__init__(nn.Identity(), multi_avg_fn=follow)
        self.module = twin

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the weights of *model* into the average."""
        mine, theirs = _shards_of(self.module), _shards_of(model)
        if not self.n_averaged:
            for own, new in zip(mine, theirs, strict=True):
                own.copy_(new)
        elif self.multi_avg_fn is not None:
            self.multi_avg_fn(mine, theirs, self.n_averaged)
        else:
            move = get_swa_avg_fn()  # type: ignore[no-untyped-call]
            for own, new in zip(mine, theirs, strict=True):
                own.copy_(move(own, new, self.n_averaged))
        for kept, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)
        self.n_averaged += 1


def _shards_of(model: nn.Module) -> list[Tensor]:
    return [cast("DTensor", one).to_local() for one in model.parameters()]


class MeanOfEpochs:
    """The equal mean of the weights at the ends of epochs from *start* on, the first being 1 (Izmailov et al. 2018).

    Args:
        model: What is trained.
        start: The first epoch whose weights count.
        seed: Of what is drawn while statistics of batch normalisation are renewed.
        twin: A copy of *model* where that is in shards, sharded alike.
    """

    def __init__(self, model: nn.Module, *, start: int, seed: int, twin: nn.Module | None = None) -> None:
        self.model = AveragedModel(model) if twin is None else AverageOfShards(twin)
        self.model.requires_grad_(False)  # noqa: FBT003 - torch's own spelling
        self._start = start
        self._seed = seed

    @property
    def begun(self) -> bool:
        """Whether any epoch counts yet."""
        return bool(self.model.n_averaged)

    def add(
        self, model: nn.Module, epoch: int, batches: Iterable[Tensor], run: Callable[[nn.Module, Tensor], object]
    ) -> None:
        """Add the weights at the end of *epoch*, unless they count already or it is too early.

        *batches* are inputs; `run(model, inputs)` passes them through. They are asked for only where there is batch
        normalisation, and what a pass draws depends on seed, epoch and the number of the batch. If anything is raised,
        nothing has changed.
        """
        count = epoch - self._start + 1
        if count < 1 or int(self.model.n_averaged) >= count:
            return
        before = {name: one.clone() for name, one in self.model.state_dict().items()}
        try:
            self.model.update_parameters(model)
            self._renew(epoch, batches, run)
        except BaseException:
            self.model.load_state_dict(before)
            raise

    def _renew(self, epoch: int, batches: Iterable[Tensor], run: Callable[[nn.Module, Tensor], object]) -> None:
        """Do what `torch.optim.swa_utils.update_bn` does, in a way that repeats."""
        norms = [one for one in self.model.modules() if isinstance(one, _BatchNorm) and one.running_mean is not None]
        if not norms:
            return
        momenta = [one.momentum for one in norms]
        modes = [(one, one.training) for one in self.model.modules()]
        for one in norms:
            one.reset_running_stats()
            one.momentum = None  # the equal mean over all batches
        self.model.train()
        try:
            with torch.no_grad():
                for number, inputs in enumerate(batches):
                    seed_generators(mix(RENEW, self._seed, epoch, number), inputs.device)
                    run(self.model, inputs)
        finally:
            for one, momentum in zip(norms, momenta, strict=True):
                one.momentum = momentum
            for part, was_training in modes:
                part.training = was_training


def is_averaged(reader: CheckpointReader, training: TrainingConfig) -> bool:
    """Say whether it is the average in *reader*'s checkpoint that is to be measured and exported."""
    if training.swa_start is not None:
        return bool(reader.load(only=("average",))["average"]["n_averaged"])
    return training.ema_decay is not None
