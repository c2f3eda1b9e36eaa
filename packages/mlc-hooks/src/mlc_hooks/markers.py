"""The two decorators that plugins and hook owners write above their functions."""

import pluggy

__all__ = ["hookimpl", "hookspec"]

PROJECT = "mlc"

hookspec = pluggy.HookspecMarker(PROJECT)
"""Mark a function as the definition of a hook. For packages that define hooks."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Mark a function as an answer to a hook. For plugins."""
