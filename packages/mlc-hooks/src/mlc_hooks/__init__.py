"""The front door of MLC: markers for plugins, one manager, and catalogs of names."""

from mlc_hooks.catalog import Catalog
from mlc_hooks.errors import (
    AmbiguousNameError,
    MlcError,
    OptionsError,
    PluginChoiceError,
    PluginError,
    UnknownNameError,
)
from mlc_hooks.markers import hookimpl, hookspec
from mlc_hooks.plugins import Plugins, open_door, shared
from mlc_hooks.records import Broken, Offer, Plugin

__all__ = [
    "AmbiguousNameError",
    "Broken",
    "Catalog",
    "MlcError",
    "Offer",
    "OptionsError",
    "Plugin",
    "PluginChoiceError",
    "PluginError",
    "Plugins",
    "UnknownNameError",
    "hookimpl",
    "hookspec",
    "open_door",
    "shared",
]
