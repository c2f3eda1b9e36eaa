"""The last save of a training that ends with an exception."""

from __future__ import annotations

import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from mlc_core.errors import CheckpointWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlc_core.manager import CheckpointManager

__all__ = ["guarded"]

ASKED = ("epoch", "step", "epoch_ended", "metrics")


@contextmanager
def guarded(manager: CheckpointManager, state: Callable[[], Mapping[str, Any]]) -> Iterator[None]:
    """Let *manager* save what *state* returns when the block ends with an exception, which always comes through."""
    try:
        yield
    except BaseException as error:
        try:
            with suppress(Exception):  # an earlier failure was warned of, and must not prevent this save
                manager.wait()
            given = dict(state())
            asked = {name: given[name] for name in ASKED if name in given}
            reason = manager.due(**asked, exception=type(error).__name__)
            if reason is not None:
                manager.save_checkpoint(**{**given, "reason": reason})
        except Exception as trouble:
            msg = f"the state at this {type(error).__name__} could not be saved: {trouble}"
            warnings.warn(msg, CheckpointWarning, stacklevel=3)
        raise
