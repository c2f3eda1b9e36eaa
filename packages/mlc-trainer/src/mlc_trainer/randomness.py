"""Randomness as a pure function: every step and every sample starts the generators from its own seed.

Then there is no stream to save, none to restore in the wrong order, and none that validation, another number of
workers or a prefetched batch could move.
"""

from __future__ import annotations

import random

import numpy as np
import torch

__all__ = ["DATA_ORDER", "MEASURE", "MODEL", "RENEW", "SAMPLE", "STEP", "mix", "seed_generators"]

MODEL, STEP, SAMPLE, DATA_ORDER, MEASURE, RENEW = range(6)  # what a seed is for; no two uses share one
MASK = 2**64 - 1


def mix(*parts: int, after: int = 0) -> int:
    """Return 64 bits that depend on every bit of *parts* and on their order; `mix(b, after=mix(a))` is `mix(a, b)`.

    Each part goes through the finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
    generators").
    """
    state = after
    for part in parts:
        state = (state + 0x9E3779B97F4A7C15 + part) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state


def seed_generators(seed: int, device: torch.device | None = None) -> None:
    """Start the global generators of Python, NumPy and torch, and that of *device*, from 64-bit *seed*.

    `torch.manual_seed` does the same for every device of the machine and takes a hundred times as long.
    """
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002 - it is the stream that users' transforms draw from
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
