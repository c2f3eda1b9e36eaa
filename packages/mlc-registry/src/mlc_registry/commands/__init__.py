"""`mlc registry`: publish, find, promote, yank, verify, audit, tell and move."""

from mlc_registry.commands.auditing import audit
from mlc_registry.commands.changing import promote, register, rollback, unyank, yank
from mlc_registry.commands.group import registry
from mlc_registry.commands.looking import history, list_registry, resolve, show, verify
from mlc_registry.commands.moving import export_registry, import_registry
from mlc_registry.commands.sending import outbox

__all__ = ["registry"]

for command in (
    list_registry,
    show,
    resolve,
    register,
    promote,
    rollback,
    yank,
    unyank,
    history,
    verify,
    audit,
    outbox,
    export_registry,
    import_registry,
):
    registry.add_command(command)
