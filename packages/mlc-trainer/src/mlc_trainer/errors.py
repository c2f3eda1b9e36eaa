"""Everything that training raises.

::

    MlcError
    ├── ConfigError         ValueError    a configuration says what cannot be followed; names the key and what is close
    ├── FactoryError        ImportError   a class named in a configuration cannot be had, or is not what is needed there
    ├── RunError            RuntimeError  the run directory is not what the call expects
    │   ├── RunBusyError                  another process trains in it
    │   └── ProofError                    a resumed run parts from an undisturbed one; names step and stream
    ├── RankError           RuntimeError  another process of the run failed, and this one stops with it
    ├── HorizonError        ValueError    the schedule ends before the training that was asked for
    ├── LoaderStuckError    TimeoutError  a batch does not come; names loader, epoch and batch
    ├── PreemptedError      RuntimeError  the process was told to end; where training stands was saved
    └── NonFiniteLossError  ArithmeticError  the loss is NaN or infinite; nothing after the last good step is kept
        └── NonFiniteStepError               at one step, which was not taken; a run that rolls back goes on from it
"""

from __future__ import annotations

from mlc_hooks import MlcError

__all__ = [
    "ConfigError",
    "FactoryError",
    "HorizonError",
    "LoaderStuckError",
    "NonFiniteLossError",
    "NonFiniteStepError",
    "PreemptedError",
    "ProofError",
    "RankError",
    "ResumeWarning",
    "RunBusyError",
    "RunError",
]


class ConfigError(MlcError, ValueError):
    """A configuration says what cannot be followed."""


class FactoryError(MlcError, ImportError):
    """A class named in a configuration cannot be had, or is not what is needed there."""


class RunError(MlcError, RuntimeError):
    """The run directory is not what the call expects."""


class RunBusyError(RunError):
    """Another process trains in the run directory."""


class ProofError(RunError):
    """A run that was killed and resumed parts from one that nothing disturbed."""

    def __init__(self, message: str, *, step: int, stream: str) -> None:
        super().__init__(message)
        self.step = step
        """The first step that differs."""
        self.stream = stream
        """What differs first at that step: the batch, the loss, the weights, the optimizer or other parts."""


class RankError(MlcError, RuntimeError):
    """Another process of the run failed, and this one stops with it."""


class HorizonError(MlcError, ValueError):
    """The learning-rate schedule ends before the training that was asked for."""


class LoaderStuckError(MlcError, TimeoutError):
    """A batch has not come in the time that it may take."""

    def __init__(self, message: str, *, loader: str, epoch: int, batch: int) -> None:
        super().__init__(message)
        self.loader = loader
        """Which one: `training` or `validation`."""
        self.epoch = epoch
        """Counted from 0, as in `Position`."""
        self.batch = batch
        """Counted from 0."""


class NonFiniteLossError(MlcError, ArithmeticError):
    """The loss is NaN or infinite."""


class NonFiniteStepError(NonFiniteLossError):
    """The loss or its gradient is NaN or infinite at a step, which was not taken."""


class PreemptedError(MlcError, RuntimeError):
    """The process was told to end by a signal; where training stands was saved."""

    def __init__(self, message: str, *, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
        """The number of the signal."""
        self.exit_status = 128 + signal  # as of a process that the signal ends: no script takes it for finished


class ResumeWarning(UserWarning):
    """The run goes on, and something is not as it was, or does not have the effect that it was to have."""
