"""Loaders that are not ours, made to repeat: each epoch and each batch starts the generators from its own seed."""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Any

from mlc_trainer.errors import ResumeWarning
from mlc_trainer.randomness import DATA_ORDER, SAMPLE, mix, seed_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["repeat"]


def repeat(
    loader: Iterable[Any],
    *,
    seed: int,
    epoch: int,
    first: int = 0,
    resumed: bool = False,
    rank: int = 0,
    watch: Callable[[Iterator[Any]], Iterator[Any]] = iter,
) -> Iterator[Any]:
    """Yield the batches of *epoch* that *loader* gives from batch *first* on; those before are loaded and let go of.

    What the loader draws for order and samples is a function of *seed*, *epoch* and the number of the batch, whoever
    draws in between: its own generators and the global ones are started anew, its sampler is told the epoch.

    All of them pass through *watch*. Of processes that each load samples of their own, each draws by its *rank*.

    Warns:
        ResumeWarning: If training was *resumed*, and batches come from processes that outlive an epoch, whose
            generators nobody can start anew.
    """
    if resumed and getattr(loader, "persistent_workers", False):
        msg = (
            "the loader keeps its worker processes from epoch to epoch, and nobody can restore what they draw: random "
            "augmentation goes on otherwise; use manager.loader(dataset, …), or persistent_workers=False"
        )
        warnings.warn(msg, ResumeWarning, stacklevel=3)
    start = mix(DATA_ORDER, seed, epoch)
    batch_sampler = getattr(loader, "batch_sampler", None)
    for owner in (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)):
        generator = getattr(owner, "generator", None)
        if generator is not None:
            generator.manual_seed(start)
        tell = getattr(owner, "set_epoch", None)
        if tell is not None:
            tell(epoch)
    seed_generators(start)
    iterator = watch(iter(loader))
    for number in itertools.count():
        more = (rank,) if rank and number else ()  # the first batches are held against each other
        seed_generators(mix(SAMPLE, seed, epoch, number, *more))
        try:
            batch = next(iterator)
        except StopIteration:
            return
        if number >= first:
            yield batch
