"""The group, and what its commands have in common."""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

from mlc_hooks.console import say
from mlc_registry.errors import RegistryWarning
from mlc_registry.registry import ModelRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Command = TypeVar("Command", bound="Callable[..., Any]")

__all__ = [
    "NumberRange",
    "actor_option",
    "limit_option",
    "note_warnings",
    "open_registry",
    "pre_option",
    "read_metadata",
    "read_pairs",
    "read_version",
    "reason_option",
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


class NumberRange(click.FloatRange):
    """A range of numbers, of which `nan` is none."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Return *value* as a number."""
        found = super().convert(value, parameter, context)
        if math.isnan(found):
            self.fail(f"{value!r} is not a number", parameter, context)
        return found


LIMIT = 100
"""Lines of a table, unless said otherwise."""
ARTIFACTS = "mlc_registry.artifacts.local"
VIEW = "mlc_registry.directories.view"


def _keep_artifacts(context: click.Context, _: click.Parameter, value: str | None) -> None:
    context.meta[ARTIFACTS] = value


def _keep_view(context: click.Context, _: click.Parameter, value: str | None) -> None:
    context.meta[VIEW] = value


def root_option(command: Command) -> Command:
    """Add the options that say where the registry is; `open_registry` asks for those of the files by itself."""
    return _root_option(_artifacts_option(_view_option(command)))


_artifacts_option = click.option(
    "--artifacts",
    metavar="PLACE",
    envvar="MLC_REGISTRY_ARTIFACTS",
    show_envvar=True,
    expose_value=False,
    callback=_keep_artifacts,
    help="The published files: a directory or a URL. [default: beside the database, where that is a file]",
)
_view_option = click.option(
    "--view",
    metavar="DIR",
    envvar="MLC_REGISTRY_VIEW",
    show_envvar=True,
    expose_value=False,
    callback=_keep_view,
    help="The directories for people. [default: beside the database, where that is a file]",
)
_root_option = click.option(
    "--registry",
    "root",
    metavar="DIR",
    envvar="MLC_REGISTRY",
    default="registry",
    show_default=True,
    show_envvar=True,
    help="The registry: a directory, or the URL of a database.",
)


def _refuse_blank(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.strip():
        msg = f"{value!r} says nothing, and stays in the history for ever; say it, or leave it out"
        raise click.BadParameter(msg, param=parameter)
    return value


def _read_reason(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    return _refuse_blank(context, parameter, value) or ""


def reason_option(text: str = "Why.", *, required: bool = False) -> Callable[[Command], Command]:
    """Return the option for a reason, which may be left out unless *required*, and is never blank."""
    return click.option("--reason", required=required, callback=_read_reason, help=text)


def limit_option(what: str, default: int = LIMIT) -> Callable[[Command], Command]:
    """Return the option for how many of *what* are printed."""
    return click.option(
        "--limit", type=click.IntRange(1), default=default, show_default=True, help=f"How many {what} at once."
    )


actor_option = click.option("--actor", callback=_refuse_blank, help="Who does this. [default: you]")
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
    said = click.get_current_context().meta
    with note_warnings(), ModelRegistry(root, artifacts=said[ARTIFACTS], view=said[VIEW], create=create) as opened:
        yield opened


@contextmanager
def note_warnings() -> Iterator[None]:
    """Print what the registry warns of as notes on standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RegistryWarning)
        try:
            yield
        finally:
            for one in caught:
                say(f"Note: {one.message}", err=True)


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


def read_metadata(pairs: tuple[str, ...], option: str = "--meta") -> dict[str, Any]:
    """Return the metadata that `KEY=VALUE` *pairs* are; a value that is JSON is read as JSON, any other is text.

    Raises:
        UsageError: If one has no equals sign or no key, or if a key comes twice; *option* is named.
    """
    return {key: _read_value(value) for key, value in read_pairs(pairs, option).items()}


def _read_value(value: str) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def read_pairs(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    """Return what `KEY=VALUE` *pairs* say, as text.

    Raises:
        UsageError: If one has no equals sign or no key, or if a key comes twice; *option* is named.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or key in found:
            why = "comes twice" if key in found else "is not KEY=VALUE"
            msg = f"{option} {pair!r} {why}"
            raise click.UsageError(msg)
        found[key] = value
    return found
