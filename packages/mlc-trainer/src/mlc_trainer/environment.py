"""What the bits depend on beside the configuration: versions, threads, processor, flags."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["differences", "fingerprint", "prepare"]


def prepare(device: torch.device, *, threads: int | None, deterministic: bool) -> None:
    """Set up torch for training that repeats."""
    if threads is not None:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = False  # it may choose another algorithm in the next process
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or torch refuses to multiply matrices
        torch.use_deterministic_algorithms(deterministic)


def fingerprint(device: torch.device) -> dict[str, Any]:
    """Return what must be the same for the bits to be the same."""
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
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Sequence[str]:
    """Return what differs, a line each: `threads was 2, is 1`."""
    names = sorted({*before, *now})
    return [f"{name} was {before.get(name)}, is {now.get(name)}" for name in names if before.get(name) != now.get(name)]
