"""The commands that sign, and show signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlc_hooks.console import json_option, print_json, say
from mlc_registry.commands.group import actor_option, open_registry, reason_option, root_option, spec_argument
from mlc_registry.commands.shown import time_shown
from mlc_registry.errors import SignatureError
from mlc_registry.semver.references import parse_reference

if TYPE_CHECKING:
    from mlc_registry.records import Signature

__all__ = ["sign", "signature", "signature_facts"]


@click.command()
@spec_argument
@click.option("--key", metavar="FILE", type=click.Path(), required=True, help="A private elliptic-curve key, in PEM.")
@click.option("--password", envvar="MLC_SIGNING_PASSWORD", show_envvar=True, help="Of the key, if it is encrypted.")
@click.option("--certificate", metavar="FILE", type=click.Path(), help="The certificate of the key, in PEM.")
@click.option(
    "--chain", metavar="FILE", type=click.Path(), multiple=True, help="A certificate above that one. Repeat for more."
)
@reason_option("What the signature says.")
@actor_option
@root_option
@json_option
def sign(
    spec: str,
    key: str,
    password: str | None,
    certificate: str | None,
    chain: tuple[str, ...],
    reason: str,
    actor: str | None,
    root: str,
    *,
    as_json: bool,
) -> None:
    """Sign the files of a version.

    As in: mlc registry sign brain-tissue@1.2.0 --key release.pem

    The files are hashed anew, and the signature becomes a line of the history. It is in the format of OpenSSF Model
    Signing, which other tools can verify, too. Needs mlc-registry[signing].
    """
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        version = opened.resolve(name, str(reference)).version
        made = opened.signing.sign(
            name, version, key=key, password=password, certificate=certificate, chain=chain, actor=actor, reason=reason
        )
    if as_json:
        print_json({"model": name, "version": str(version), **signature_facts(made)})
    else:
        say(f"{name} {version} is signed by {made.actor}")


@click.command()
@spec_argument
@click.option("--number", type=click.IntRange(min=1), help="Which, the first is 1. [default: the last]")
@click.option("--list", "only_list", is_flag=True, help="Say who has signed and when, instead.")
@root_option
@json_option
def signature(spec: str, number: int | None, root: str, *, only_list: bool, as_json: bool) -> None:
    """Print a signature of a version, for other tools.

    As in: mlc registry signature brain-tissue@1.2.0 > model.sig

    Then verify it with: model_signing verify key DIRECTORY --signature model.sig --public_key release.pub
    """
    name, reference = parse_reference(spec)
    with open_registry(root) as opened:
        found = opened.signing.list(name, str(reference))
    if only_list:
        if as_json:
            print_json([signature_facts(one) for one in found])
        for place, one in enumerate(() if as_json else found, start=1):
            say(f"{place}  {time_shown(one.at)}  {one.actor}")
        return
    if len(found) < (number or 1):
        said = f"has {len(found)} signatures, not {number}" if found else "is not signed"
        msg = f"{spec} {said}"
        raise SignatureError(msg)
    chosen = found[number - 1] if number else found[-1]
    if as_json:
        print_json(signature_facts(chosen))
    else:
        say(chosen.bundle)


def signature_facts(one: Signature) -> dict[str, str]:
    """Return a signature as plain data."""
    return {"bundle": one.bundle, "actor": one.actor, "at": one.at.isoformat()}
