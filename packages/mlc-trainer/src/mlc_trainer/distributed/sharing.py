"""The batches of a loader that is not ours, shared out among the processes that train together."""

from __future__ import annotations

import itertools
import zlib
from typing import TYPE_CHECKING, Any

import torch

from mlc_trainer.distributed.pieces import Cut
from mlc_trainer.errors import ConfigError
from mlc_trainer.measure import change_tensors, tensors_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlc_trainer.distributed.world import World

__all__ = ["check_piece", "share_out"]

OURS = "manager.loader(dataset, …) shares out any dataset"


def share_out(
    batches: Iterable[Any], world: World, *, parts: int, own: bool, first: int = 0
) -> Iterator[tuple[Any, int]]:
    """Yield what this process trains on of each of *batches*, and how many samples the batch has, all together.

    Args:
        batches: What this process loads: tensors `(B, …)`, or lists, tuples and mappings of some.
        world: The processes; all of them call this.
        parts: Into how many parts a batch is cut on the device.
        own: Whether the samples are this process's own, as many in each; else all load the same batches, and each
            process takes its piece.
        first: The number of the first of *batches* in its epoch: that of an epoch is held against the others'.

    Raises:
        ConfigError: On all processes, if their batches are the same and are to be *own*, or the other way about, or
            if they differ in number or length; on this one, if a batch has no such form.
    """
    cut = Cut(parts, world.rank, world.size)
    iterator, nothing = iter(batches), object()
    for number in itertools.count(first):
        batch = next(iterator, nothing)
        length = 0 if batch is nothing else _length_of(batch)
        if not world.is_alike(length):
            msg = f"the processes differ: here a batch has {length} samples, elsewhere not; give each as many. {OURS}"
            raise ConfigError(msg)
        if batch is nothing:
            return
        if not number:
            _check_kind(batch, world, own=own)
        if own:
            _check_even(length, cut)
            yield batch, length * world.size
        else:
            rows = cut.rows(length)
            yield change_tensors(batch, lambda one, rows=rows: one[rows]), length  # type: ignore[misc]


def check_piece(batch: Any, length: int | None, world: World, *, parts: int) -> None:
    """Make sure that *batch* is this process's piece of one of *length* samples.

    Raises:
        ConfigError: If it is not, or nobody knows of what it is a piece.
    """
    if length is None:
        msg = (
            f"{world.size} processes train, and what they share are the batches of manager.batches(loader): loop on it"
        )
        raise ConfigError(msg)
    found, expected = _length_of(batch), len(Cut(parts, world.rank, world.size).rows(length))
    if found != expected:
        msg = (
            f"a batch of {length} samples gives this process {expected}, and {found} came to train_step; leave their "
            f"number as it is, and load with {OURS}"
        )
        raise ConfigError(msg)


def _length_of(batch: Any) -> int:
    lengths = {len(one) if one.ndim else 0 for one in tensors_in(batch)}
    if len(lengths) != 1 or 0 in lengths:
        msg = f"a batch has tensors of {sorted(lengths)} samples; to be shared out all must have the same number"
        raise ConfigError(msg)
    return lengths.pop()


def _check_kind(batch: Any, world: World, *, own: bool) -> None:
    """Hold the first batches of all processes against each other."""
    if world.is_alike(_digest(batch)) is not own:
        return
    if own:
        msg = (
            f"all {world.size} processes load the same samples; give the loader a DistributedSampler, or leave out "
            f"own=True, and each trains on its piece of every batch. {OURS}"
        )
    else:
        msg = (
            f"the {world.size} processes load different batches; say own=True if each loads samples of its own, as "
            f"with a DistributedSampler. {OURS}"
        )
    raise ConfigError(msg)


def _check_even(length: int, cut: Cut) -> None:
    if length != sum(map(len, cut.own(length * cut.ranks))):
        msg = f"{length} samples of each process make no {cut.parts} equal parts; take a multiple, and drop_last=True"
        raise ConfigError(msg)


def _digest(batch: Any) -> int:
    found = 0
    for one in tensors_in(batch):
        content = one.detach().cpu().contiguous().flatten().view(torch.uint8)
        found = zlib.crc32(content.numpy().data, found)
    return found
