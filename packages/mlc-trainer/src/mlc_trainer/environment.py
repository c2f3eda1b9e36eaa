"""What the bits depend on beside the configuration: versions, threads, processor, flags."""

from __future__ import annotations

import os
import platform
from typing import Any

import numpy as np
import torch

from mlc_trainer.measure import FORMATS

__all__ = ["fingerprint", "prepare"]


def prepare(device: torch.device, *, threads: int | None, deterministic: bool) -> None:
    """Set up torch for training that repeats."""
    if threads is not None:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = False  # it may choose another algorithm in the next process
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or torch refuses to multiply matrices
        torch.use_deterministic_algorithms(deterministic)


def fingerprint(device: torch.device, model: torch.nn.Module | None = None) -> dict[str, Any]:
    """Return what must be the same for the bits to be the same, how the weights of *model* lie in memory too."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": str(np.__version__),
        "machine": platform.machine(),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda
        found["deterministic algorithms"] = torch.are_deterministic_algorithms_enabled()
        found["float32 matmul precision"] = torch.get_float32_matmul_precision()
    if model is not None:
        found["memory format"] = "channels last" if any(map(_is_channels_last, model.parameters())) else "contiguous"
    return found


def _is_channels_last(weight: torch.Tensor) -> bool:
    if weight.ndim not in FORMATS or weight.is_contiguous():
        return False
    return weight.is_contiguous(memory_format=FORMATS[weight.ndim])
