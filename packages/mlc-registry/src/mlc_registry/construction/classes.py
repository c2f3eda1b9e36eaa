"""A version as a class with its configuration, and back: nothing is imported that was not allowed by name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from mlc_hooks.hints import nearest
from mlc_registry.construction.weights import RECIPE
from mlc_registry.errors import ConstructionError, InvalidMetadataError, UncheckedClassWarning
from mlc_registry.metadata import normalise_metadata
from mlc_registry.records import Architecture
from mlc_registry.requirements import require_texts, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlc_registry.records import Json, ModelVersion

__all__ = ["ALLOWED", "construct", "describe_class", "find_class", "read_allowed", "recipe"]

ALLOWED = "MLC_ALLOWED_CLASSES"
"""The environment variable with what may be imported, separated by commas."""
NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def describe_class(
    model_cls: type | str, config: Mapping[str, Any] | None, *, allow: Sequence[str] = ()
) -> Architecture:
    """Return what is kept of a class and its configuration, checked so that it can be constructed from that again.

    Args:
        model_cls: A class, or where it is imported from, as in `medical.networks:UNet`. A class that is only named is
            looked at, and *config* held against it, if its module was imported already, or may be; else it is believed.
        config: What it is called with, by keyword.
        allow: As for `ModelRegistry.load`.

    Raises:
        ConstructionError: If nobody else could import the class, if *config* is no JSON, or if the class does not take
            it.

    Warns:
        UncheckedClassWarning: If a class that is only named was believed.
    """
    kept = _read_config(config)
    if isinstance(model_cls, str):
        where = _check_name(model_cls)
        module = where.partition(":")[0]
        may_look = module in sys.modules or (_is_allowed(where, read_allowed(allow)) and _is_there(module))
        found = _import(where) if may_look else None
        if found is None:
            msg = (
                f"nobody has looked whether {where} is a class: its module is not imported here; import it first, or "
                f"set {ALLOWED}={module.partition('.')[0]} where it is installed"
            )
            warnings.warn(msg, UncheckedClassWarning, stacklevel=3)
    else:
        where, found = _locate(model_cls), model_cls
    if found is not None:
        _check_call(found, where, kept)
    return Architecture(model_class=where, config=kept)


def find_class(published: ModelVersion, *, model_cls: type | str | None, allow: Sequence[str]) -> type:
    """Return the class of *published*, imported only if it was allowed.

    Raises:
        ConstructionError: If nothing says its class, if it is not allowed or is not *model_cls*, or cannot be imported.
    """
    what = f"{published.model} {published.version}"
    if published.architecture is None:
        msg = (
            f"{what} was published without its class; take its files with get_model_path() and construct it yourself, "
            "or publish the next one with register(name, version, model_cls, config, path=…)"
        )
        raise ConstructionError(msg)
    where = _check_name(published.architecture.model_class)
    if model_cls is not None:
        if not isinstance(model_cls, (str, type)):
            _refuse(f"model_cls={show(model_cls)} must be a class, or its name, as 'package.module:Class'")
        given = model_cls if isinstance(model_cls, str) else _spell(model_cls)
        if given != where and not (isinstance(model_cls, type) and _look_up(where) is model_cls):
            msg = (
                f"{what} is a {where}, and model_cls is {given}; load a version of that class, or construct it yourself"
            )
            raise ConstructionError(msg)
        return model_cls if not isinstance(model_cls, str) else _import(where)
    allowed = read_allowed(allow)
    if not _is_allowed(where, allowed):
        package = where.partition(":")[0].partition(".")[0]
        shown = ", ".join(allowed) or "nothing is"
        msg = (
            f"{what} is a {where}, and importing that is not allowed ({shown}): a registry must not decide which code "
            f"runs here. If you trust it, pass allow=({package!r},), model_cls={where!r} or the class itself, "
            f"or set {ALLOWED}={package}"
        )
        raise ConstructionError(msg)
    found = _import(where)
    origin = f"{found.__module__}:{found.__qualname__}"
    if not _is_allowed(origin, allowed) and not _is_allowed(where, [one for one in allowed if ":" in one]):
        msg = f"{what} is a {where}, which comes from {found.__module__}, and importing that is not allowed"
        raise ConstructionError(msg)
    return found


def construct(found: type, published: ModelVersion) -> Any:
    """Return *found*, called with the configuration of *published*.

    Raises:
        ConstructionError: If it does not take it, or fails.
    """
    architecture = published.architecture
    where = _spell(found)
    config = dict(architecture.config) if architecture is not None else {}
    _check_call(found, where, config)
    try:
        return found(**config)
    except Exception as error:
        msg = f"{published.model} {published.version}: {where} failed with {_show(config)}: {_tell(error)}"
        raise ConstructionError(msg) from error


@contextmanager
def recipe(architecture: Architecture) -> Iterator[Path]:
    """Make the file that stands for a class with its configuration and no weights, until the context ends."""
    record = {"format": "mlc-model/1", "class": architecture.model_class, "config": architecture.config}
    with tempfile.TemporaryDirectory(prefix="mlc-model-") as folder:
        path = Path(folder) / RECIPE
        path.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
        yield path


def read_allowed(allow: Iterable[str]) -> tuple[str, ...]:
    """Return what may be imported: *allow*, and what the environment says.

    Raises:
        ConstructionError: If one is no package, module or class.
    """
    named = (
        *require_texts(allow, "allow", error=ConstructionError),
        *(one.strip() for one in os.environ.get(ALLOWED, "").split(",") if one.strip()),
    )
    for one in named:
        module, colon, name = one.partition(":")
        if NAME.fullmatch(module) is None or (colon and NAME.fullmatch(name) is None):
            msg = f"{one!r} cannot be allowed: name a package, a module or a class, as medical or medical.networks:UNet"
            raise ConstructionError(msg)
    return tuple(dict.fromkeys(named))


def _is_allowed(where: str, allowed: Iterable[str]) -> bool:
    module = where.partition(":")[0]
    return any(one in {where, module} or module.startswith(f"{one}.") for one in allowed)


# ---------------------------------------------------------------------- classes


def _spell(found: type) -> str:
    return f"{found.__module__}:{found.__qualname__}"


def _locate(model_cls: object) -> str:
    """Return where others can import the class *model_cls* from."""
    if not isinstance(model_cls, type):
        name = getattr(model_cls, "__qualname__", type(model_cls).__name__)
        kind = "a lambda" if name.endswith("<lambda>") else f"{name!r}, a {type(model_cls).__name__}"
        _refuse(
            f"model_cls is {kind}, and must be a class; write a class in a module, or name one: 'package.module:Class'"
        )
    where = _spell(model_cls)
    if model_cls.__module__ == "__main__":
        _refuse(
            f"{model_cls.__qualname__} is defined in the script that runs (__main__), from where nobody else can "
            "import it; move it to a module of a package, and import it from there"
        )
    if "<locals>" in model_cls.__qualname__:
        _refuse(
            f"{where} is defined inside of a function, from where nobody can import it; move it to the module's top"
        )
    if _look_up(where) is not model_cls:
        _refuse(
            f"{where} is not what {model_cls.__module__} has under that name; give it the name that it is imported by"
        )
    return where


def _look_up(where: str) -> object:
    """Return what *where* names, if its module was imported already."""
    module, _, name = where.partition(":")
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _check_name(where: str) -> str:
    module, colon, name = where.partition(":")
    if not colon or NAME.fullmatch(module) is None or NAME.fullmatch(name) is None:
        _refuse(f"{where!r} names no class; write 'package.module:Class'")
    if module == "__main__":
        _refuse(f"{where!r} is in the script that runs, from where nobody else can import it; move it to a module")
    return where


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _import(where: str) -> type:
    module, _, name = where.partition(":")
    try:
        found: object = importlib.import_module(module)
    except Exception as error:
        msg = f"{where} cannot be imported: {_tell(error)}; install what defines it"
        raise ConstructionError(msg) from error
    for part in name.split("."):
        known = [one for one, value in vars(found).items() if isinstance(value, type)]
        found = getattr(found, part, None)
        if not isinstance(found, type):  # a module within is none: from there one would get anywhere
            _refuse(f"{where} is no class.{nearest(part, known)}")
    return found  # type: ignore[return-value]


# ---------------------------------------------------------------------- configuration


def _read_config(config: Mapping[str, Any] | None) -> dict[str, Json]:
    try:
        return normalise_metadata(config, what="config")
    except InvalidMetadataError as error:
        _refuse(str(error), error)


def _check_call(found: type, where: str, config: Mapping[str, Any]) -> None:
    """Refuse *config* if the class *found* does not take it, as far as its signature tells."""
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # a class written in C may have none
        return
    try:
        signature.bind(**config)
    except TypeError as error:
        unknown = [name for name in config if name not in signature.parameters]
        hint = nearest(unknown[0], list(signature.parameters)) if unknown else ""
        _refuse(f"{where} does not take config {_show(config)}: {error}.{hint} It takes {signature}", error)


def _show(config: Mapping[str, Any]) -> str:
    text = str(dict(config))
    return text if len(text) <= 200 else f"{text[:200]}…"


def _tell(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _refuse(why: str, cause: BaseException | None = None) -> NoReturn:
    raise ConstructionError(why) from cause
