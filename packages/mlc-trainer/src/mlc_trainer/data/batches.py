"""A dataset in batches, with or without workers, resumable at any batch."""

from __future__ import annotations

import os
import signal
import weakref
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import torch
from torch.utils.data import DataLoader

from mlc_trainer.data.drawing import may_draw
from mlc_trainer.data.order import BatchPlan
from mlc_trainer.distributed.pieces import WHOLE, Cut
from mlc_trainer.errors import ConfigError
from mlc_trainer.randomness import SAMPLE, mix, seed_generators

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlc_trainer.data.order import Token

__all__ = ["Batches", "DataModule", "SeededDataset", "SizedDataset"]


class SizedDataset(Protocol):
    """A map-style dataset of pairs (input, target)."""

    def __len__(self) -> int:
        """Return how many samples there are."""

    def __getitem__(self, index: int, /) -> Any:
        """Return the sample *index*; what it draws at random depends on seed, epoch and *index* only."""


class DataModule(Protocol):
    """Where a run's data come from."""

    def training(self) -> SizedDataset:
        """Return what is trained on."""

    def validation(self) -> SizedDataset:
        """Return what is measured on after every epoch."""


class SeededDataset:
    """Gives every sample its own randomness, the same in any process and after any restart."""

    def __init__(self, dataset: SizedDataset, seed: int) -> None:
        self._dataset = dataset
        self._seed = seed
        self._draws = may_draw(dataset)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, token: Token) -> Any:
        epoch, index = token
        if self._draws:
            seed_generators(mix(SAMPLE, self._seed, epoch, index))
        return self._dataset[index]

    def __getitems__(self, tokens: Sequence[Token]) -> list[Any]:
        """Return the samples of a batch, which is how a loader asks."""
        if self._draws:
            return [self[token] for token in tokens]
        return [self._dataset[index] for _, index in tokens]


class Batches:
    """The batches of *dataset*, epoch after epoch.

    Args:
        dataset: Map-style; draws what it likes from the global generators of Python, NumPy and torch.
        seed: Of order and samples.
        batch_size: Samples in a batch.
        shuffle: Whether every epoch has its own order.
        drop_last: Whether an incomplete last batch is left out.
        workers: Processes that load; the batches do not depend on it.
        pin_memory: Whether batches are put where a CUDA device fetches them faster.
        name: What the data are for, as messages say it.
        cut: Which samples of each batch are this process's; *batch_size* is that of all processes together.

    Raises:
        ConfigError: If *dataset* is not map-style, or makes no batch.
    """

    def __init__(
        self,
        dataset: SizedDataset,
        *,
        seed: int,
        batch_size: int,
        shuffle: bool,
        drop_last: bool = False,
        workers: int = 0,
        pin_memory: bool = False,
        name: str = "",
        cut: Cut = WHOLE,
    ) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            what = f"{type(dataset).__name__} {f'({name} data) ' if name else ''}has no length or no items by number"
            msg = f"{what}; a dataset must have both"
            raise ConfigError(msg)
        self.samples = len(dataset)
        self._cut = cut
        self._plan = BatchPlan(
            length=self.samples, batch_size=batch_size, seed=seed, shuffle=shuffle, drop_last=drop_last, cut=cut
        )
        if not len(self._plan):
            what = f"{self.samples} {f'{name} ' if name else ''}samples make no batch of {batch_size}"
            msg = f"{what}; add data{' or lower data.batch_size' if self.samples else ''}"
            raise ConfigError(msg)
        own = torch.Generator()  # else every iterator would draw from the stream that dropout draws from
        own.manual_seed(seed & (2**63 - 1))
        self._loader: DataLoader[Any] = DataLoader(
            SeededDataset(dataset, seed),  # type: ignore[arg-type]  # map-style by protocol, not by inheritance
            batch_sampler=self._plan,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=own,
            pin_memory=pin_memory,
            worker_init_fn=_leave_signals_to_the_main_process,
        )
        weakref.finalize(self, _end_workers, self._loader, os.getpid())  # at exit, too, where nobody asks for it

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        return len(self._plan)

    def length_of(self, batch: int) -> int:
        """Return how many samples *batch* has, all processes together."""
        return self._plan.length_of(batch)

    def epoch(self, epoch: int, *, first: int = 0, parts: int | None = None) -> Iterator[Sequence[torch.Tensor]]:
        """Yield the batches of *epoch* from batch *first* on, cut into *parts* before they are shared out."""
        self._plan.epoch, self._plan.first = epoch, first
        self._plan.cut = self._cut if parts is None else attrs.evolve(self._cut, parts=parts)
        return iter(self._loader)

    def close(self) -> None:
        """End the processes that load, if there are any; the next epoch starts others."""
        _end_workers(self._loader, os.getpid())


def _leave_signals_to_the_main_process(_: int) -> None:
    """A worker that dies of the group's SIGTERM takes the batch with it that the last save waits for."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_workers(loader: DataLoader[Any], owner: int) -> None:
    """End the processes of *loader* that *owner* started: they ignore SIGTERM, for which Python would wait at exit."""
    iterator: Any = getattr(loader, "_iterator", None)  # torch has no public way
    loader._iterator = None  # noqa: SLF001
    if iterator is None or os.getpid() != owner:
        return
    iterator._shutdown_workers()  # noqa: SLF001
    for worker in iterator._workers:  # noqa: SLF001
        if worker.is_alive():  # it hangs
            worker.kill()
            worker.join()
