"""An example of a plugin for MLC."""
