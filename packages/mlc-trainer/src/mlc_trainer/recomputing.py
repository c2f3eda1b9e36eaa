"""Gradient checkpointing: blocks forget what they computed, and compute it once more when the gradient needs it."""

from __future__ import annotations

import random
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mlc_trainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

__all__ = ["recompute_blocks"]


def recompute_blocks(model: nn.Module) -> nn.Module:
    """Let the blocks of *model* keep no activations, and return it (Chen et al. 2016, "Sublinear memory cost").

    Blocks are the children, with weights, of its outermost `nn.Sequential` and `nn.ModuleList`. Gradients are the same
    to the bit: what a block draws it draws again, from whichever generator, and it counts in no batch normalisation
    twice. Names of weights stay as they are.

    Raises:
        ConfigError: If there is no such block.
    """
    blocks = {id(block): block for block in _blocks(model)}
    if not blocks:
        msg = (
            f"training.gradient_checkpointing = true, and {type(model).__qualname__} has no blocks: children with "
            "weights of an nn.Sequential or an nn.ModuleList"
        )
        raise ConfigError(msg)
    for block in blocks.values():
        kind = type(block)
        block.__class__ = type(kind.__name__, (_Recomputing, kind), {"__module__": kind.__module__})
    return model


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        is_block = isinstance(module, (nn.Sequential, nn.ModuleList)) and _can_be_called(child)
        if not is_block:
            yield from _blocks(child)
        elif any(True for _ in child.parameters()):
            yield child


def _can_be_called(module: nn.Module) -> bool:
    return not isinstance(module, (nn.ModuleList, nn.ModuleDict))


class _Recomputing(nn.Module):
    """Comes before the class of a block, so that copies of the block do the same with their own weights."""

    def forward(self, *inputs: Any, **options: Any) -> Any:
        run = partial(super().forward, **options)
        if not (self.training and torch.is_grad_enabled()):
            return run(*inputs)
        return checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=True, context_fn=self._contexts)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Called before the first pass; torch itself only cares for its own generators."""
        return nullcontext(), _AsItWas(self)


class _AsItWas:
    """Lets Python and NumPy draw what they drew, and a second pass write to buffers that nobody keeps."""

    def __init__(self, block: nn.Module) -> None:
        self._block = block
        self._drawn = _streams()

    def __enter__(self) -> None:
        self._now = _streams()
        self._buffers = [(one, dict(one._buffers)) for one in self._block.modules()]  # noqa: SLF001 - torch has no public way to replace them
        for one, buffers in self._buffers:
            one._buffers.update({name: None if each is None else each.clone() for name, each in buffers.items()})  # noqa: SLF001
        _set_streams(self._drawn)

    def __exit__(self, *_: object) -> None:
        for one, buffers in self._buffers:
            one._buffers.update(buffers)  # noqa: SLF001
        _set_streams(self._now)


def _streams() -> tuple[Any, Any]:
    return random.getstate(), np.random.get_state()  # noqa: NPY002 - the one that models draw from


def _set_streams(streams: tuple[Any, Any]) -> None:
    random.setstate(streams[0])
    np.random.set_state(streams[1])  # noqa: NPY002 - the same
