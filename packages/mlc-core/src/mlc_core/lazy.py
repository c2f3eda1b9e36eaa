"""Staging that takes no time: what only the optimizer's step changes is copied while the next step computes."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from mlc_core.errors import ConfigurationError
from mlc_core.state.frameworks import TensorMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlc_core.background import Saving
    from mlc_core.image import Part

__all__ = ["StepGate", "only_steps_change"]


def only_steps_change(model: Any, optimizer: Any) -> Callable[[Part], bool]:
    """Return a test for the parts of a state that change in `optimizer.step()` only.

    These are the parameters of *model* and the optimizer's state. Buffers are not: the forward pass changes them.
    """
    trained = list(model.parameters()) if hasattr(model, "parameters") else []
    trained += [value for state in optimizer.state.values() for value in state.values() if hasattr(value, "data_ptr")]
    addresses = {tensor.data_ptr() for tensor in trained}
    return lambda part: isinstance(part, TensorMemory) and part.tensor.data_ptr() in addresses


class StepGate:
    """Lets the step of an optimizer wait until what was being staged is staged."""

    def __init__(self) -> None:
        self._saving: Saving | None = None
        self._watched: weakref.WeakSet[Any] = weakref.WeakSet()

    def watch(self, optimizer: Any) -> None:
        """Let every later step of *optimizer* wait.

        Raises:
            ConfigurationError: If it is no optimizer that can be made to wait.
        """
        if not hasattr(optimizer, "register_step_pre_hook"):
            msg = "lazy=True must make the optimizer's next step wait: give a torch optimizer, or leave lazy away"
            raise ConfigurationError(msg)
        if optimizer not in self._watched:
            optimizer.register_step_pre_hook(self._wait)
            self._watched.add(optimizer)

    def close_until_staged(self, saving: Saving) -> None:
        """Let the next step wait for *saving*."""
        self._saving = saving

    def _wait(self, *_: object) -> None:
        saving = self._saving
        if saving is not None:
            saving.staged.exception()  # what failed is told where every failed save is told
            if self._saving is saving:  # and no later one, from another thread
                self._saving = None  # not before: who interrupts the wait has not waited
