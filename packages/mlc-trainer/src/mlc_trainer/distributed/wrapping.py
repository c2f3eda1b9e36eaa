"""A model that several processes train: a copy in each of them, or a shard."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from mlc_hooks.hints import known_names, nearest
from mlc_trainer.errors import ConfigError
from mlc_trainer.measure import tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from mlc_trainer.config import TrainingConfig

__all__ = [
    "check_parallel",
    "copy_to_all",
    "gathering",
    "is_sharded",
    "make_parallel",
    "make_twin",
    "rehearse",
    "shard",
]


def make_parallel(model: nn.Module, training: TrainingConfig, device: torch.device) -> nn.Module:
    """Return what several processes call instead of *model*: a wrapped copy in each, or *model* itself, sharded.

    Raises:
        ConfigError: If something is asked for that they cannot have.
    """
    check_parallel(training)
    if training.parallel == "fsdp":
        shard(model, device, blocks=training.shard_blocks)
        return model
    return copy_to_all(model, device, find_unused_parameters=training.find_unused_parameters)


def check_parallel(training: TrainingConfig) -> None:
    """Make sure that several processes can have what *training* asks for.

    Raises:
        ConfigError: If they cannot.
    """
    if training.save_on_error:
        msg = "training.save_on_error does not go with several processes: the others would wait for the one that failed"
        raise ConfigError(msg)
    if training.parallel == "fsdp" and training.precision == "fp16":
        msg = (
            "training.precision = 'fp16' does not go with parallel = 'fsdp', where each process would see other "
            "gradients overflow; take 'bf16'"
        )
        raise ConfigError(msg)


def copy_to_all(model: nn.Module, device: torch.device, *, find_unused_parameters: bool = False) -> nn.Module:
    """Return what each process calls instead of *model*, whose weights become those of rank 0 in all of them."""
    return nn.parallel.DistributedDataParallel(
        model,
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=find_unused_parameters,
    )


def is_sharded(model: nn.Module) -> bool:
    """Say whether no process holds the whole of *model*."""
    return any(isinstance(one, DTensor) for one in model.parameters())


def make_twin(model: nn.Module, training: TrainingConfig, device: torch.device) -> nn.Module | None:
    """Return a copy of *model*, which is not sharded yet, in shards, if it is to be sharded and its weights averaged.

    Raises:
        ConfigError: As `shard`.
    """
    if training.parallel != "fsdp" or (training.ema_decay is None and training.swa_start is None):
        return None
    twin = copy.deepcopy(model).requires_grad_(False)  # noqa: FBT003 - torch's own spelling
    shard(twin, device, blocks=training.shard_blocks, trained=False)
    return twin


def shard(model: nn.Module, device: torch.device, *, blocks: Sequence[str], trained: bool = True) -> None:
    """Shard the parameters of *model* over all processes, in place (FSDP2).

    What is gathered at once is a block: a module of a class named in *blocks*; without any, each module in a
    `ModuleList`, as the layers of a transformer. The rest of the model is one more. What is not *trained* is in shards
    again after every pass.

    Raises:
        ConfigError: If the model has no module of a class in *blocks*.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    classes = {type(one).__name__ for one in model.modules()}
    for name in blocks:
        if name not in classes:
            msg = (
                f"training.shard_blocks names {name!r}, and the model has no module of that class."
                f"{nearest(name, classes)} {known_names('Its classes', classes)}"
            )
            raise ConfigError(msg)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    again = None if trained else True  # else what is only measured would stay whole: a backward pass shards it again
    for block in _blocks(model, blocks):
        fully_shard(block, mesh=mesh, reshard_after_forward=again)
    fully_shard(model, mesh=mesh, reshard_after_forward=again)


def _blocks(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Return what is gathered at once, the inner ones first."""
    if names:
        found = [one for one in model.modules() if type(one).__name__ in names and one is not model]
    else:
        found = [child for one in model.modules() if isinstance(one, nn.ModuleList) for child in one]
    with_weights = [one for one in found if next(one.parameters(), None) is not None]
    return list(dict.fromkeys(reversed(with_weights)))


@contextmanager
def gathering(forward: nn.Module, *, now: bool) -> Iterator[None]:
    """Let the gradients of a backward pass stay in this process, unless they are to be gathered *now*."""
    if isinstance(forward, nn.parallel.DistributedDataParallel):
        if now:
            yield
        else:
            with forward.no_sync():
                yield
        return
    tell = getattr(forward, "set_requires_gradient_sync", None)
    if tell is not None:
        tell(now)
    yield


def rehearse(model: nn.Module, forward: Callable[[Tensor], Any], inputs: Tensor) -> None:
    """Pass *inputs* through *forward* and back once, and leave no trace of it in *model*.

    DistributedDataParallel lays out its buckets by the first pass of a process, and other buckets give other bits. An
    uninterrupted run has its first pass once, a resumed one once more in the middle; so neither counts.
    """
    kept = [buffer.clone() for buffer in model.buffers()]
    outputs = [one for one in tensors_in(forward(inputs)) if one.requires_grad]
    torch.autograd.backward([one.abs().sum() for one in outputs])  # a real number of complex ones, too
    for buffer, before in zip(model.buffers(), kept, strict=True):
        buffer.copy_(before)
    model.zero_grad(set_to_none=True)
