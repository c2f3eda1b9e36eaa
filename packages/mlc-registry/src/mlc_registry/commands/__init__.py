"""`mlc registry`: publish, find, promote, yank, verify, audit, tell and move."""

from mlc_registry.commands.auditing import audit
from mlc_registry.commands.changing import demote, promote, rollback, unyank, yank
from mlc_registry.commands.depending import dependencies, dependents, lock
from mlc_registry.commands.group import registry
from mlc_registry.commands.looking import history, list_registry, resolve, show, verify
from mlc_registry.commands.migrating import migrate
from mlc_registry.commands.moving import export_registry, import_registry
from mlc_registry.commands.picturing import rebuild, tree
from mlc_registry.commands.policies import approvals, approve, policy, withdraw
from mlc_registry.commands.pruning import prune
from mlc_registry.commands.registering import register
from mlc_registry.commands.releasing import changelog, diff, notes, suggest, tag, untag
from mlc_registry.commands.searching import search
from mlc_registry.commands.sending import outbox
from mlc_registry.commands.signatures import sign, signature
from mlc_registry.commands.sweeping import sweep

__all__ = ["registry"]

for command in (
    list_registry,
    search,
    show,
    resolve,
    register,
    tree,
    policy,
    approve,
    withdraw,
    approvals,
    promote,
    rollback,
    demote,
    yank,
    unyank,
    history,
    verify,
    audit,
    outbox,
    export_registry,
    import_registry,
    rebuild,
    sweep,
    dependencies,
    dependents,
    lock,
    prune,
    sign,
    signature,
    notes,
    tag,
    untag,
    diff,
    suggest,
    changelog,
    migrate,
):
    registry.add_command(command)
