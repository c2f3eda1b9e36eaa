"""How exactly matrices are multiplied."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["multiplying"]


@contextmanager
def multiplying(precision: str | None) -> Iterator[None]:
    """Multiply float32 matrices with *precision*, `highest`, `high` or `medium`, within; None changes nothing."""
    before = torch.get_float32_matmul_precision()
    if precision is not None:
        torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        if precision is not None:
            torch.set_float32_matmul_precision(before)
