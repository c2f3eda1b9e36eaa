"""Everything the front door raises.

::

    MlcError                          every error of every MLC package
    ├── UnknownNameError  LookupError   nothing is offered under that name
    ├── AmbiguousNameError LookupError  more than one plugin offers that name
    ├── OptionsError      TypeError     an offer was given options that it does not take
    ├── PluginChoiceError ValueError    MLC_PLUGINS or MLC_PLUGINS_STRICT cannot be followed
    └── PluginError       RuntimeError  a plugin's name is taken, or it failed and MLC_PLUGINS_STRICT is on
"""

__all__ = [
    "AmbiguousNameError",
    "MlcError",
    "OptionsError",
    "PluginChoiceError",
    "PluginError",
    "UnknownNameError",
]


class MlcError(Exception):
    """The root of every error that an MLC package raises on purpose."""

    exit_status: int = 1
    """What a command that it ends exits with."""


class UnknownNameError(MlcError, LookupError):
    """Nothing is offered under that name."""


class AmbiguousNameError(MlcError, LookupError):
    """More than one plugin offers that name; spell it `plugin:name`."""


class OptionsError(MlcError, TypeError):
    """An offer was given options that its factory does not take."""


class PluginChoiceError(MlcError, ValueError):
    """`MLC_PLUGINS` or `MLC_PLUGINS_STRICT` says something that cannot be followed."""


class PluginError(MlcError, RuntimeError):
    """A plugin's name is taken, or it failed and `MLC_PLUGINS_STRICT=1` asks to hear of it at once."""
