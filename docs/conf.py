"""How the documentation is built: `python -m nox -s docs`."""

from __future__ import annotations

import inspect
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_core import retention_policies, save_strategies

sys.path.insert(0, str(Path(__file__).parent / "_code"))

from loss_pictures import write_loss_pictures
from loss_tables import write_loss_tables

if TYPE_CHECKING:
    from mlc_hooks import Catalog

project = "MLC"
author = "The MLC contributors"
copyright = "The MLC contributors"  # noqa: A001 - the name is Sphinx's
version = release = installed("mlc-hooks")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build", "_code", "_generated", "examples"]
default_role = "code"  # names in docstrings stand in single backticks
smartquotes = False  # `--json` is two hyphens
html_theme = "furo"
html_title = "MLC"

myst_enable_extensions = ["colon_fence", "fieldlist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_include_init_with_doc = False

nitpicky = True
suppress_warnings = ["ref.python"]  # two packages have an Interval each; the nearest one is meant
# What other projects document is looked up by readers, not by us: no inventory of theirs is fetched.
nitpick_ignore_regex = [(r"py:.*", r"(?!mlc_).*"), (r"py:.*", r"mlc_\w+\.[a-z_.]*\.[A-Z_]\w*$")]


def _table(catalog: Catalog[Any]) -> str:
    """Return a table of what *catalog* offers: first-party names, options with defaults, and the first line of help."""
    lines = ["| name | | options |", "|---|---|---|"]
    for name in catalog.names():
        factory = catalog.factory(name)
        if not factory.__module__.startswith("mlc_core."):
            continue
        parameters = inspect.signature(factory).parameters.values()
        options = [
            f"`{one.name}`" if one.default is one.empty else f"`{one.name}={one.default!r}`" for one in parameters
        ]
        help_text = (inspect.getdoc(factory) or "").split("\n\n")[0].replace("\n", " ")
        lines.append(f"| `{name}` (`{factory.__name__}`) | {help_text} | {', '.join(options)} |")
    return "\n".join(lines) + "\n"


def setup(_app: object) -> None:
    """Write the tables that a program can write, and draw the pictures that it can draw."""
    folder = Path(__file__).parent / "_generated"
    folder.mkdir(exist_ok=True)
    for name, catalog in (("save_strategies", save_strategies()), ("retention_policies", retention_policies())):
        (folder / f"{name}.md").write_text(_table(catalog), encoding="utf-8")
    write_loss_tables(lambda name, text: (folder / name).write_text(text, encoding="utf-8"))
    write_loss_pictures(folder)
