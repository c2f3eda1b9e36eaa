"""The commands about what may go where, and who has approved it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from mlc_hooks.console import json_option, print_json, print_table, say
from mlc_registry.commands.group import actor_option, open_registry, reason_option, root_option, spec_argument
from mlc_registry.commands.shown import time_shown
from mlc_registry.promotion.policy import Policy
from mlc_registry.semver.references import parse_reference

if TYPE_CHECKING:
    from mlc_registry.promotion.policy import CheckRule
    from mlc_registry.records import Approval

__all__ = ["approvals", "approve", "policy", "withdraw"]


EXAMPLE = """\b
others = false                  # there are no other stages than these
[stages.staging]
[stages.production]
after = ["staging"]             # only what has been there
prereleases = false
checks = [
    {check = "metric_gate", metric = "dice", minimum = 0.9, not_worse = true},
    {check = "approval", count = 1, not_publisher = true},
]
"""


@click.group(epilog=EXAMPLE)
def policy() -> None:
    """Say what may be promoted to which stage.

    Without a policy every stage may be used freely. A policy is a file such as the one below.
    """


@policy.command("show")
@root_option
@json_option
def show_policy(root: str, *, as_json: bool) -> None:
    """Show the policy that holds; with --json, as `policy set` takes it."""
    with open_registry(root) as opened:
        found = opened.policy.read()
    if as_json:
        print_json(found.to_dict())
        return
    if found.stages:
        rows = [
            (
                one.name,
                " or ".join(one.after),
                "yes" if one.prereleases else "no",
                "\n".join(_check_text(rule) for rule in one.checks),
            )
            for one in found.stages
        ]
        print_table("Policy", ("stage", "only after", "pre-releases", "checks"), rows)
    which = "Other stages" if found.stages else "No stage has a rule: all of them"
    say(f"{which} may be used freely." if found.others else "There are no other stages.")


@policy.command("set")
@click.argument("file", type=click.Path())
@click.option("--expected", metavar="FILE", help="Only if the policy that holds is the one in this file.")
@reason_option()
@actor_option
@root_option
@json_option
def set_policy(file: str, expected: str | None, reason: str, actor: str | None, root: str, *, as_json: bool) -> None:
    """Let the policy in a file hold from now on.

    FILE is TOML, or JSON if its name ends in .json. What is at a stage stays there. The history keeps every
    policy that ever held.
    """
    new = Policy.load(file)
    old = None if expected is None else Policy.load(expected)
    with open_registry(root) as opened:
        opened.policy.write(new, expected=old, actor=actor, reason=reason)
    if as_json:
        print_json(new.to_dict())
    else:
        names = ", ".join(one.name for one in new.stages) or "none"
        say(f"The policy holds from now on. Stages with a rule: {names}")


@policy.command("check")
@spec_argument
@click.argument("stage")
@actor_option
@root_option
@json_option
def check_policy(spec: str, stage: str, actor: str | None, root: str, *, as_json: bool) -> None:
    """Tell what the policy has against a promotion, without promoting.

    As in: mlc registry policy check brain-tissue@1.2.0 production

    The exit status is 1 if it has anything.
    """
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        version = opened.resolve(name, str(reference)).version
        found = opened.policy.check(name, version, stage, actor=actor)
    if as_json:
        print_json([{"rule": one.rule, "reason": one.reason} for one in found])
    elif found:
        print_table(
            f"Against {name} {version} in {stage}", ("rule", "objection"), [(one.rule, one.reason) for one in found]
        )
    else:
        say(f"ok  {name} {version} may be promoted to {stage}")
    if found:
        click.get_current_context().exit(1)


@click.command()
@spec_argument
@click.argument("stage")
@reason_option()
@actor_option
@root_option
@json_option
def approve(spec: str, stage: str, reason: str, actor: str | None, root: str, *, as_json: bool) -> None:
    """Say that a version may be promoted to a stage.

    As in: mlc registry approve brain-tissue@1.2.0 production --reason "looked at the worst ten cases"

    It is said of this one version, and counts once for each person.
    """
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        version = opened.resolve(name, str(reference)).version
        given = opened.policy.approve(name, version, stage, reason=reason, actor=actor)
    if as_json:
        print_json({"model": name, "version": str(version), **_approval_facts(given)})
    else:
        say(f"{given.actor} has approved {name} {version} for {stage}")


@click.command()
@spec_argument
@click.argument("stage")
@reason_option()
@actor_option
@root_option
@json_option
def withdraw(spec: str, stage: str, reason: str, actor: str | None, root: str, *, as_json: bool) -> None:
    """Take an approval back.

    What was promoted with it stays where it is.
    """
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        version = opened.resolve(name, str(reference)).version
        opened.policy.withdraw(name, version, stage, reason=reason, actor=actor)
        left = opened.policy.approvals(name, version, stage)
    if as_json:
        print_json([_approval_facts(one) for one in left])
    else:
        who = ", ".join(one.actor for one in left) or "nobody"
        say(f"Withdrawn. {name} {version} is approved for {stage} by {who} now")


@click.command()
@spec_argument
@click.argument("stage")
@root_option
@json_option
def approvals(spec: str, stage: str, root: str, *, as_json: bool) -> None:
    """List who has approved a version for a stage."""
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        version = opened.resolve(name, str(reference)).version
        found = opened.policy.approvals(name, version, stage)
    if as_json:
        print_json([_approval_facts(one) for one in found])
        return
    rows = [(one.actor, time_shown(one.at), one.reason) for one in found]
    print_table(f"Approvals of {name} {version} for {stage}", ("who", "when", "why"), rows)


def _check_text(rule: CheckRule) -> str:
    options = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in rule.options.items())
    return f"{rule.check}: {options}" if options else rule.check


def _approval_facts(given: Approval) -> dict[str, str]:
    return {"stage": given.stage, "actor": given.actor, "reason": given.reason, "at": given.at.isoformat()}
