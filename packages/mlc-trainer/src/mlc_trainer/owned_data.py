"""The batches of a loop that its user owns: made to repeat, watched, and shared out among the processes that train."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from mlc_trainer.data import Batches
from mlc_trainer.data.foreign import repeat
from mlc_trainer.distributed.sharing import share_out
from mlc_trainer.errors import ConfigError, RunError
from mlc_trainer.randomness import MEASURE, mix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mlc_trainer.data.watchdog import Watchdog
    from mlc_trainer.distributed import World
    from mlc_trainer.engine import Position

__all__ = ["OwnedData", "check_epoch"]


def check_epoch(position: Position, epoch: int) -> None:
    """Make sure that *epoch* is over.

    Raises:
        RunError: If it is not, because nobody ended it or it had nothing to train on.
    """
    if position.epoch == epoch:
        why = "call end_epoch(epoch, …) or save_checkpoint(…) once it did" if position.batch else "it had no batch"
        msg = f"epoch {epoch} did not end: {why}"
        raise RunError(msg)


@attrs.define
class OwnedData:
    """Gives out what loaders load, theirs or ours."""

    seed: int
    parts: int
    """Into how many parts a batch to train on is cut on the device."""
    world: World
    dog: Watchdog
    resumed: bool = False

    def training(
        self, loader: Batches | Iterable[Any], epoch: int, *, first: int, own: bool
    ) -> Iterator[tuple[Any, int | None]]:
        """Yield this process's piece of each batch of *epoch*, and how many samples the batch has, all together.

        In one process that is the batch, and no number.

        Raises:
            ConfigError: As `share_out`, or if *own* is said where it means nothing.
        """
        watch = partial(self.dog.watch, loader="training", epoch=epoch)
        if isinstance(loader, Batches):
            if own:
                msg = "own=True is for loaders of your own; what manager.loader returned shares out its samples itself"
                raise ConfigError(msg)
            coming = watch(loader.epoch(epoch, first=first), first=first)
            length_of = (lambda _: None) if self.world.size == 1 else loader.length_of
            return ((batch, length_of(number)) for number, batch in enumerate(coming, first))
        rank = self.world.rank if own else 0
        repeated = repeat(
            loader, seed=self.seed, epoch=epoch, first=first, resumed=self.resumed, rank=rank, watch=watch
        )
        if self.world.size == 1:
            return ((batch, None) for batch in repeated)
        return share_out(repeated, self.world, parts=self.parts, own=own, first=first)

    def validation(
        self, loader: Batches | Iterable[Any], epoch: int
    ) -> tuple[Iterator[Any], Callable[[int], int] | None]:
        """Return this process's pieces of the batches to measure on after *epoch*, and what says how long each is.

        Raises:
            ConfigError: As `share_out`.
        """
        watch = partial(self.dog.watch, loader="validation", epoch=epoch)
        if isinstance(loader, Batches):
            return watch(loader.epoch(0, parts=1)), loader.length_of
        repeated = repeat(loader, seed=mix(MEASURE, self.seed), epoch=0, resumed=self.resumed, watch=watch)
        if self.world.size == 1:
            return repeated, None
        lengths: list[int] = []
        return self._noting(share_out(repeated, self.world, parts=1, own=False), lengths), lengths.__getitem__

    def _noting(self, shared: Iterator[tuple[Any, int]], lengths: list[int]) -> Iterator[Any]:
        for batch, length in shared:
            lengths.append(length)
            yield batch
