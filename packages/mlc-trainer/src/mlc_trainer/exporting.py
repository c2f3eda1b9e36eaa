"""A model in memory, written as the formats of others have it: no checkpoint is made of it on the way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch

from mlc_core import export_pt, export_safetensors
from mlc_core.state.items import collect, model_state

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlc_core import CheckpointReader
    from mlc_core.protocols import TensorBytes

__all__ = ["export_model"]


def export_model(model: torch.nn.Module, target: Path) -> None:
    """Write the weights of *model* to *target*: safetensors if it ends so, else what `torch.save` writes.

    Raises:
        EntryExistsError: If there is something at *target*.
        DiskFullError, StorageError: If it cannot be written.
    """
    export = export_safetensors if target.suffix == ".safetensors" else export_pt
    export(cast("CheckpointReader", _Live(model)), target)


class _Live:
    """What the exports ask of a checkpoint, answered by the model."""

    location = "the model in memory"
    saved = SimpleNamespace(items=("model",))

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model

    def raw_tree(self, item: str) -> Any:
        return collect({item: self._model})[item].tree

    def raw_tensors(self, item: str) -> Mapping[str, TensorBytes]:
        return collect({item: self._model})[item].tensors

    def load(self, *, only: tuple[str, ...], copy: bool) -> dict[str, dict[str, Any]]:
        del copy  # what is not on the CPU is copied to it, and the rest is only read
        return {item: {name: _plain(one) for name, one in model_state(self._model).items()} for item in only}


def _plain(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, torch.Tensor) else value
