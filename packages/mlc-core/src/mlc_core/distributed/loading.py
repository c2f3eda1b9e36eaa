"""From a sharded checkpoint into objects: held against them first, then read, each rank what it needs."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch.distributed.checkpoint.state_dict_loader import load

from mlc_core.distributed.naming import rank_name
from mlc_core.distributed.opened import ShardedCheckpoint, open_sharded
from mlc_core.distributed.planners import ShardedLoadPlanner
from mlc_core.distributed.ranks import Ranks
from mlc_core.distributed.reader import ShardedReader
from mlc_core.distributed.states import (
    load_model,
    load_optimizer,
    model_state_of,
    optimizer_state_of,
    optimizer_targets,
)
from mlc_core.distributed.tensors import dtype_of, split
from mlc_core.errors import CheckpointNotFoundError, CheckpointWarning, ConfigurationError, MismatchError
from mlc_core.restore import ModelFit, Restored, fit_model, restore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Targets", "load_into", "load_sharded", "verify_together"]


@attrs.frozen(kw_only=True)
class Targets:
    """The objects that are to be loaded into; None leaves one out."""

    model: Any = None
    optimizer: Any = None
    scheduler: Any = None
    items: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def given(self) -> dict[str, Any]:
        """Those that are not None, by item."""
        named = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler, **self.items}
        return {name: target for name, target in named.items() if target is not None}


@attrs.frozen
class _Prepared:
    """What this rank will load, held against what the checkpoint says."""

    fit: ModelFit
    tensors: dict[str, Any]
    """For each item in pieces, the tensors to be filled, by name."""
    optimizer: dict[str, Any]
    plain: dict[str, Any]
    """The states of the other items."""


def load_sharded(
    path: Path | str,
    *,
    model: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    items: Mapping[str, Any] | None = None,
    strict: bool = True,
    verify: bool = True,
) -> Restored:
    """Load a sharded checkpoint in this process alone; nothing of `torch.distributed` need be initialised.

    Args:
        path: A directory, a link to one, or a URL.
        model: Gets its parameters and buffers back, whole.
        optimizer: Gets its state back; needs *model*.
        scheduler: The same.
        items: Other objects with a `load_state_dict()`, by the names they were saved under.
        strict: Refuse a model that does not fit exactly; else load what fits and report the rest.
        verify: Hold every file against its digest first.

    Returns:
        The checkpoint's record, the states that were read, and what did not fit.

    Raises:
        CheckpointNotFoundError: If there is none, or it holds nothing for one of the objects.
        CorruptCheckpointError: If it is corrupt. Nothing was changed.
        MismatchError: If it is not sharded, or does not fit.
    """
    alone = Ranks(None)
    opened = open_sharded(path, verify=verify)
    verify_together(alone, opened)
    targets = Targets(model=model, optimizer=optimizer, scheduler=scheduler, items=items or {})
    return load_into(alone, opened, targets, strict=strict)


def verify_together(ranks: Ranks, opened: ShardedCheckpoint) -> None:
    """Verify every file once, shared out over the *ranks*, unless it was opened without.

    Raises:
        CorruptCheckpointError: On all ranks, if a file is missing or changed.
    """
    loads = [0] * ranks.count
    share: list[str] = []
    for record in sorted(opened.reader.saved.files, key=lambda one: (-one.size, one.name)):
        turn = loads.index(min(loads))
        loads[turn] += record.size
        if turn == ranks.rank:
            share.append(record.name)
    ranks.each(lambda: opened.verify(share))


def load_into(ranks: Ranks, opened: ShardedCheckpoint, targets: Targets, *, strict: bool) -> Restored:
    """Load into *targets* what *opened*, whose files are verified, holds. To be called by all *ranks*.

    Raises:
        ConfigurationError: If the ranks were given different ones.
        CheckpointNotFoundError: If it holds nothing for one of them.
        CorruptCheckpointError: If it says what its files do not hold.
        MismatchError: If it does not fit.
    """
    given = ranks.all(lambda: sorted(targets.given))
    if any(one != given[0] for one in given):
        msg = f"the ranks load different things: {' and '.join(map(str, given))}; give all of them the same"
        raise ConfigurationError(msg)
    verified = attrs.evolve(opened, verifies=False)
    prepared = ranks.each(lambda: _prepare(ranks, verified, targets, strict=strict))
    ranks.each(lambda: _load_plain(verified, targets, prepared))
    state = dict(prepared.tensors)
    if state:
        with ranks.together():
            load(
                state,
                storage_reader=ShardedReader(verified),
                planner=ShardedLoadPlanner(partial=() if strict else ("model",)),
                process_group=ranks.group,
                no_dist=ranks.group is None,
            )
    ranks.each(lambda: _load_sharded(verified, targets, prepared, state, strict=strict))
    return Restored(saved=opened.reader.saved, state={**prepared.plain, **state}, fit=prepared.fit)


def _prepare(ranks: Ranks, opened: ShardedCheckpoint, targets: Targets, *, strict: bool) -> _Prepared:
    where, layout, given = opened.reader.location, opened.layout, targets.given
    held = [*layout.tensors, *opened.plain, *layout.per_rank]
    absent = [name for name in given if name not in held]
    if absent:
        msg = f"{where} holds no {', '.join(absent)}; it holds {', '.join(held)}"
        raise CheckpointNotFoundError(msg)
    fit, own = ModelFit(), {}
    tensors: dict[str, Any] = {}
    for name, target in given.items():
        if name not in layout.tensors:
            continue
        if name == "model":
            fit, tensors[name] = _fit(opened, target, strict=strict)
        elif name == "optimizer":
            own = optimizer_state_of(targets.model, target)
            tensors[name] = optimizer_targets(targets.model, own, opened.trees[name], layout.tensors[name], where=where)
        else:
            tensors[name] = dict(split(name, target.state_dict()).tensors)
            _check_shapes(opened, name, tensors[name])
    return _Prepared(fit, tensors, own, _read_plain(ranks, opened, given))


def _fit(opened: ShardedCheckpoint, model: Any, *, strict: bool) -> tuple[ModelFit, dict[str, Any]]:
    """Hold the saved model against *model*, and return the tensors that can be filled."""
    own, where = model_state_of(model), opened.reader.location
    tree, held = opened.trees["model"], opened.layout.tensors["model"]
    if not isinstance(tree, dict):
        msg = f"{where} holds a {type(tree).__name__} as its model, which cannot be loaded into one"
        raise MismatchError(msg)
    unborn = [name for name, value in own.items() if isinstance(value, torch.Tensor) and value.is_meta]
    if unborn:
        msg = f"the model has no memory for {', '.join(unborn[:5])}; give it some: model.to_empty(device=…), then load"
        raise MismatchError(msg)
    saved = {
        name: torch.empty(held[name].shape, dtype=dtype_of(held[name].dtype), device="meta")
        if name in held
        else own.get(name)
        for name in tree
    }
    fit = fit_model(model, saved)
    if strict and not fit.is_lossless:
        msg = f"{where} does not fit the model: {fit}. Build the model it was saved from, or pass strict=False"
        raise MismatchError(msg)
    usable = {
        name: value
        for name, value in own.items()
        if isinstance(value, torch.Tensor) and name in held and tuple(value.shape) == held[name].shape
    }
    return fit, usable


def _check_shapes(opened: ShardedCheckpoint, item: str, tensors: Mapping[str, torch.Tensor]) -> None:
    held = opened.layout.tensors[item]
    wrong = [
        name
        for name in {**held, **tensors}
        if name not in held or name not in tensors or held[name].shape != tuple(tensors[name].shape)
    ]
    if wrong:
        names = ", ".join(wrong[:5])
        msg = f"{opened.reader.location} does not fit {item}: {names} missing on one side, or of another shape"
        raise MismatchError(msg)


# ---------------------------------------------------------------------- items that are not in pieces


def _read_plain(ranks: Ranks, opened: ShardedCheckpoint, given: Mapping[str, Any]) -> dict[str, Any]:
    layout, where = opened.layout, opened.reader.location
    own = {rank_name(item, ranks.rank): item for item in layout.per_rank}
    if layout.per_rank and layout.ranks != ranks.count:
        msg = (
            f"{where} holds {', '.join(layout.per_rank)} of each of {layout.ranks} ranks, and there are {ranks.count}: "
            "they are left out"
        )
        if not set(layout.per_rank).isdisjoint(given):
            raise MismatchError(msg)
        if ranks.rank == 0:
            warnings.warn(msg, CheckpointWarning, stacklevel=2)
        own = {}
    state = opened.reader.load(only=[*opened.plain, *own], verify=False)
    return {own.get(name, name): value for name, value in state.items()}


def _load_plain(opened: ShardedCheckpoint, targets: Targets, prepared: _Prepared) -> None:
    plain = {name: target for name, target in targets.given.items() if name in prepared.plain}
    restore(opened.reader, prepared.plain, model=None, optimizer=None, scheduler=None, strict=True, items=plain)


def _load_sharded(
    opened: ShardedCheckpoint, targets: Targets, prepared: _Prepared, state: dict[str, Any], *, strict: bool
) -> None:
    for name, target in sorted(targets.given.items(), key=lambda one: one[0] == "model"):
        if name not in prepared.tensors:
            continue
        try:
            if name == "model":
                load_model(target, dict(state[name]), strict=strict)
            elif name == "optimizer":
                load_optimizer(target, prepared.optimizer, state[name])
            else:
                target.load_state_dict(state[name])
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            msg = (
                f"{opened.reader.location}: the {name} did not take its state ({type(error).__name__}: {error}); "
                "the model may hold a part of it already"
            )
            raise MismatchError(msg) from error
