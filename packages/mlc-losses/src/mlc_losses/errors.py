"""Everything that losses raise on purpose.

::

    MlcError                      every error of every MLC package
    ├── LossConfigError ValueError  an option or a configuration dictionary that cannot be followed
    └── LossInputError  ValueError  tensors that would give a number, and the wrong one

Names that nobody offers raise `mlc_hooks.UnknownNameError`, a `LookupError`.
"""

from mlc_hooks import MlcError

__all__ = ["LossConfigError", "LossInputError"]


class LossConfigError(MlcError, ValueError):
    """An option or a configuration dictionary cannot be followed."""


class LossInputError(MlcError, ValueError):
    """Tensors of a shape, kind or range that would give a number, and the wrong one."""
