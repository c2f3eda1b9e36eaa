"""How the documentation is built: `python -m nox -s docs`."""

from importlib.metadata import version as installed

project = "MLC"
author = "The MLC contributors"
copyright = "The MLC contributors"  # noqa: A001 - the name is Sphinx's
version = release = installed("mlc-hooks")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build", "examples"]
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
# What other projects document is looked up by readers, not by us: no inventory of theirs is fetched.
nitpick_ignore_regex = [(r"py:.*", r"(?!mlc_).*"), (r"py:.*", r"mlc_\w+\.[a-z_.]*\.[A-Z]\w*$")]
