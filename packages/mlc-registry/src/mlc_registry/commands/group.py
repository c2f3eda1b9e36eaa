"""The group, and what its commands have in common."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import orjson

from mlc_registry.errors import RegistryWarning
from mlc_registry.registry import ModelRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "actor_option",
    "open_registry",
    "pre_option",
    "read_metadata",
    "read_version",
    "registry",
    "root_option",
    "spec_argument",
]


@click.group()
def registry() -> None:
    """Publish versions of models, find them, and say which is in production.

    A version is meant by NAME@REFERENCE, where REFERENCE is an exact version (1.2.3), a range as npm has them (^1.2,
    ~1.2.3, 1.x), latest (the highest release), newest (what was published last) or a stage (production). NAME alone
    means its latest version.
    """


root_option = click.option(
    "--registry",
    "root",
    metavar="DIR",
    envvar="MLC_REGISTRY",
    default="registry",
    show_default=True,
    show_envvar=True,
    help="The registry: a directory, or the URL of a database.",
)
actor_option = click.option("--actor", help="Who does this. [default: you]")
pre_option = click.option(
    "--pre", "include_prereleases", is_flag=True, help="Let ranges and latest find pre-releases too."
)
spec_argument = click.argument("spec", metavar="NAME[@REFERENCE]")


@contextmanager
def open_registry(root: str, *, create: bool = False) -> Iterator[ModelRegistry]:
    """Open the registry in *root* for one command; its warnings are notes on standard error.

    Raises:
        RegistryNotFoundError: If there is none, unless *create*: looking must not leave an empty one behind.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RegistryWarning)
        try:
            with ModelRegistry(root, create=create) as opened:
                yield opened
        finally:
            for one in caught:
                click.echo(f"Note: {one.message}", err=True)


def read_version(spec: str) -> tuple[str, str]:
    """Return the name and the version of `NAME@VERSION`.

    Raises:
        UsageError: If the version is missing.
    """
    name, _, version = spec.partition("@")
    if not version:
        msg = f"{spec!r} names no version; write {name}@1.2.3"
        raise click.UsageError(msg)
    return name, version


def read_metadata(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return the metadata that `KEY=VALUE` *pairs* are; a value that is JSON is read as JSON, any other is text.

    Raises:
        UsageError: If one has no equals sign or no key, or if a key comes twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or key in found:
            why = "comes twice" if key in found else "is not KEY=VALUE"
            msg = f"--meta {pair!r} {why}"
            raise click.UsageError(msg)
        try:
            found[key] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[key] = value
    return found
