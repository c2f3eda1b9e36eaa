"""The files of published versions: where they come from, where they lie, and what is left over."""
