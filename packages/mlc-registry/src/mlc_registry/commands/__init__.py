"""`mlc registry`: publish, find, promote, yank and verify."""

from mlc_registry.commands.changing import promote, register, rollback, unyank, yank
from mlc_registry.commands.group import registry
from mlc_registry.commands.looking import history, list_registry, resolve, show, verify

__all__ = ["registry"]

for command in (list_registry, show, resolve, register, promote, rollback, yank, unyank, history, verify):
    registry.add_command(command)
