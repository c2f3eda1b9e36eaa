"""What several ranks hold and should hold alike: found by digest, told by name, made equal on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import orjson
import torch
import xxhash
from torch.distributed.tensor import DTensor

from mlc_core.distributed.naming import rank_name
from mlc_core.distributed.tensors import as_bytes, local_part
from mlc_core.distributed.writer import PlainItems
from mlc_core.errors import ConfigurationError, StateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core.distributed.ranks import Ranks
    from mlc_core.state import ItemState

__all__ = ["OnDifference", "make_equal", "share_out"]

OnDifference = Literal["error", "rank0", "mean"]
SHOWN = 8  # names in a message
Copies = dict[tuple[str, tuple[int, ...]], torch.Tensor]


def make_equal(ranks: Ranks, tensors: Mapping[str, torch.Tensor], on_difference: OnDifference) -> None:
    """Find what ranks have copies of and do not agree on: buffers, plain tensors, replicas of a `DTensor`.

    Args:
        ranks: Who must agree.
        tensors: What this rank has, by name.
        on_difference: `error`; or make them equal, in the tensors themselves, so that training goes on from what is
            saved: `rank0` takes the values of the lowest rank that has them, `mean` their mean.

    Raises:
        StateError: If there are differences and that is an error, or the mean of integers is asked for; names them.
    """
    if ranks.count == 1:
        return
    copies = ranks.each(lambda: _copies(tensors))
    differing = ranks.agree(lambda: {place: _digest(one, place[0]) for place, one in copies.items()}, _differing)
    if not differing:
        return
    names = list(dict.fromkeys(name for name, _ in differing))
    if on_difference == "error":
        msg = (
            f"{_some(names)}: the ranks hold different values, and a checkpoint holds one. Synchronise them, as "
            "torch.nn.SyncBatchNorm does, or say which to keep: on_difference='rank0' or 'mean'"
        )
        raise StateError(msg)
    for place in differing:
        _synchronise(ranks, place[0], copies.get(place), on_difference)


def _copies(tensors: Mapping[str, torch.Tensor]) -> Copies:
    found = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            if any(one.is_replicate() for one in tensor.placements) and tensor.device_mesh.get_coordinate() is not None:
                (chunk,) = tensor.__create_chunk_list__()  # type: ignore[no-untyped-call]
                found[name, tuple(chunk.offsets)] = local_part(tensor)
        else:
            found[name, (0,) * tensor.dim()] = tensor
    return found


def _digest(tensor: torch.Tensor, name: str) -> str:
    raw = as_bytes(tensor, name)
    hashed = xxhash.xxh3_128(f"{raw.dtype} {raw.shape}".encode())
    hashed.update(raw.data)
    return hashed.hexdigest()


def _differing(found: Sequence[Mapping[tuple[str, tuple[int, ...]], str]]) -> list[tuple[str, tuple[int, ...]]]:
    first: dict[tuple[str, tuple[int, ...]], str] = {}
    differing = set()
    for one in found:
        for place, digest in one.items():
            if first.setdefault(place, digest) != digest:
                differing.add(place)
    return sorted(differing)


@torch.no_grad()
def _synchronise(ranks: Ranks, name: str, own: torch.Tensor | None, how: OnDifference) -> None:
    held = [one for one in ranks.all(lambda: None if own is None else own.cpu()) if one is not None]
    if len({(one.dtype, one.shape) for one in held}) > 1:
        msg = f"{name} has other shapes or dtypes on other ranks: {_some([f'{one.dtype} {one.shape}' for one in held])}"
        raise StateError(msg)
    if how == "mean" and not (held[0].is_floating_point() or held[0].is_complex()):
        msg = f"{name} differs among the ranks and has no mean, being {held[0].dtype}; take on_difference='rank0'"
        raise StateError(msg)
    if own is not None:
        wide = torch.complex128 if own.is_complex() else torch.float64
        mean = how == "mean"
        own.copy_(torch.stack([one.to(wide) for one in held]).mean(0).to(own.dtype) if mean else held[0])


# ---------------------------------------------------------------------- items that are not in pieces


def share_out(
    ranks: Ranks, states: Mapping[str, ItemState], *, alike: frozenset[str], first_decides: bool
) -> PlainItems:
    """Return what this rank saves: rank 0 what is the same everywhere, every rank its own of what differs.

    Args:
        ranks: All that save.
        states: What this rank was given, by item.
        alike: Items that must not differ.
        first_decides: Take rank 0's where they do.

    Raises:
        ConfigurationError: If the ranks were given different items, or one has the name of a rank's own.
        StateError: If one that must not differ does.
    """
    differing = ranks.agree(lambda: {name: _digest_item(one) for name, one in states.items()}, _differing_items)
    wrong = sorted(alike.intersection(differing))
    differing = [name for name in differing if name not in alike]
    if wrong and not first_decides:
        msg = (
            f"{', '.join(wrong)}: the ranks hold different states, as when each steps on its own metrics; reduce them "
            "first, or take rank 0's with on_difference='rank0'"
        )
        raise StateError(msg)
    own = {rank_name(name, ranks.rank): states[name] for name in differing}
    shared = {name: state for name, state in states.items() if name not in differing} if ranks.rank == 0 else {}
    taken = sorted(own.keys() & states.keys())
    if taken:
        msg = f"items called {', '.join(taken)} are in the way of those that differ among the ranks; rename them"
        raise ConfigurationError(msg)
    return PlainItems(states={**shared, **own}, per_rank=tuple(differing))


def _digest_item(state: ItemState) -> str:
    hashed = xxhash.xxh3_128(orjson.dumps(state.tree))
    for name, raw in state.tensors.items():
        hashed.update(f"{name} {raw.dtype} {raw.shape}".encode())
        hashed.update(raw.data)
    return hashed.hexdigest()


def _differing_items(found: Sequence[Mapping[str, str]]) -> list[str]:
    if any(one.keys() != found[0].keys() for one in found):
        kinds = " and ".join(sorted({str(sorted(one)) for one in found}))
        msg = f"the ranks were given different items: {kinds}; give all of them the same"
        raise ConfigurationError(msg)
    return [name for name in found[0] if len({one[name] for one in found}) > 1]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown}, … and {len(names) - SHOWN} more"
