"""The commands that let others hear of the history."""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import attrs
import click

from mlc_hooks.console import json_option, print_json, print_table, say
from mlc_registry.catalogs import open_store
from mlc_registry.commands.group import root_option
from mlc_registry.errors import DeliveryError, ListenerBusyError, StoreError
from mlc_registry.history.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["outbox"]

SECRET = "MLC_OUTBOX_SECRET"  # noqa: S105 - where it is, not what
LONGEST = 300.0
"""Seconds between two attempts, after many that failed."""


@click.group()
def outbox() -> None:
    """Let others hear what happens, in order, at least once."""


@outbox.command()
@click.argument("name")
@click.argument("url")
@click.option("--from-start", is_flag=True, help="It is to hear the whole history, not only what happens from now on.")
@root_option
@json_option
def add(name: str, url: str, root: str, *, from_start: bool, as_json: bool) -> None:
    """Keep a listener; `deliver` sends to it."""
    with closing(open_store(root, create=False)) as store:
        added = Outbox(store).add(name, url, from_start=from_start)
    if as_json:
        print_json(attrs.asdict(added))
    else:
        say(f"{name} hears what comes after line {added.position}; `mlc registry outbox deliver` sends it")


@outbox.command()
@click.argument("name")
@root_option
@json_option
def remove(name: str, root: str, *, as_json: bool) -> None:
    """Forget a listener."""
    with closing(open_store(root, create=False)) as store:
        box = Outbox(store)
        removed = box.get(name)
        box.remove(name)
    if as_json:
        print_json(attrs.asdict(removed))
    else:
        say(f"{name} is forgotten")


@outbox.command("list")
@root_option
@json_option
def list_listeners(root: str, *, as_json: bool) -> None:
    """List the listeners, and how far each has heard."""
    with closing(open_store(root, create=False)) as store:
        found = [attrs.asdict(one) for one in Outbox(store).list()]
    if as_json:
        print_json(found)
    else:
        print_table("Listeners", ("name", "url", "position", "pending"), [tuple(one.values()) for one in found])


@outbox.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--follow", is_flag=True, help="Go on until interrupted; what fails is tried again, ever less often.")
@click.option("--interval", type=click.FloatRange(min=0.01), default=5.0, show_default=True, help="Seconds, to follow.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.01), default=10.0, show_default=True, help="Seconds to answer in."
)
@root_option
@json_option
def deliver(names: tuple[str, ...], root: str, *, follow: bool, interval: float, timeout: float, as_json: bool) -> None:
    """Send what listeners have not heard: to those NAMEd, or to all.

    Each line is one POST of JSON, signed with the secret in MLC_OUTBOX_SECRET if there is one. The exit status is 1 if
    any listener did not take what was sent. With --follow, --json prints a document each time something was sent.
    """
    secret = os.environ.get(SECRET) or None
    if secret is None:
        say(f"Note: nothing is signed, as {SECRET} is not set", err=True)
    with closing(open_store(root, create=False)) as store:
        box = Outbox(store)
        misses = 0
        while True:
            sent, failed = _send(box, names, secret, timeout, follow=follow)
            if not as_json:
                for one in sent:
                    if one["delivered"]:
                        say(f"{one['name']}: {one['delivered']} delivered")
            elif not follow or failed or any(one["delivered"] for one in sent):
                print_json(sent)
            if not follow:
                break
            misses = misses + 1 if failed else 0
            time.sleep(min(interval * 2**misses, max(LONGEST, interval)))
    if failed:
        raise click.exceptions.Exit(1)


def _send(
    box: Outbox, names: Sequence[str], secret: str | None, timeout: float, *, follow: bool
) -> tuple[list[dict[str, Any]], bool]:
    """Deliver to all that are meant, whether one fails or not; return what each took, and whether any failed."""
    from mlc_registry.history.webhooks import Webhook  # HTTP takes a moment to load, and few commands need it

    sent: list[dict[str, Any]] = []
    failed = False
    try:
        for one in [box.get(name) for name in names] or box.list():
            count, why = 0, None
            try:
                count = box.deliver(one.name, Webhook(one.url, secret=secret, timeout=timeout))
            except (DeliveryError, ListenerBusyError) as error:
                why = str(error)
                say(f"Error: {one.name}: {why}", err=True)
                failed = True
            sent.append({"name": one.name, "delivered": count, "error": why})
    except StoreError as error:
        if not follow:
            raise
        say(f"Error: {error}", err=True)  # a server that starts anew is no reason to stop
        failed = True
    return sent, failed
