"""Classes named in configurations: imported, held against what is needed there, and only then called."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlc_hooks import MlcError
from mlc_hooks.hints import nearest
from mlc_trainer.errors import FactoryError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["build", "find_class"]


def find_class(
    spelling: str, *, within: str | None = None, base: type | None = None, methods: tuple[str, ...] = ()
) -> type:
    """Return the class *spelling* names.

    A configuration also arrives inside checkpoints, so it is data: nothing is called that is not a class of the kind
    that belongs there.

    Args:
        spelling: `package.module:Class`, or a bare name in *within*.
        within: The module that bare names are looked up in.
        base: What it must derive from.
        methods: What it must have.

    Raises:
        FactoryError: If it cannot be imported or is something else; says what is close.
    """
    module_name, mark, name = spelling.rpartition(":")
    if not mark and within is not None:
        module_name = within
    if not all(part.isidentifier() for part in (*module_name.split("."), name)):
        msg = f"{spelling!r} must be spelled package.module:Class{f', or be a name in {within}' if within else ''}"
        raise FactoryError(msg)
    try:
        module = import_module(module_name)
    except ImportError as error:
        msg = f"{spelling!r}: cannot import {module_name!r} ({error}); is its directory the current one, or installed?"
        raise FactoryError(msg) from error
    found = getattr(module, name, None)
    if found is None:
        msg = f"{module_name!r} has no {name!r}.{nearest(name, [one for one in dir(module) if one[0].isupper()])}"
        raise FactoryError(msg)
    if not inspect.isclass(found) or (base is not None and not issubclass(found, base)):
        msg = f"{spelling!r} is not a {'class' if base is None else f'subclass of {base.__module__}.{base.__name__}'}"
        raise FactoryError(msg)
    missing = [method for method in methods if not callable(getattr(found, method, None))]
    if missing:
        msg = f"{spelling!r} has no method {', '.join(missing)}; it needs {', '.join(methods)}"
        raise FactoryError(msg)
    return found


def build(kind: type, *arguments: object, options: Mapping[str, Any]) -> Any:
    """Call *kind* with *arguments* and *options*.

    Raises:
        FactoryError: If it does not take them; says what it takes.
    """
    signature = inspect.signature(kind)
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        takes = ", ".join(str(one) for one in list(signature.parameters.values())[len(arguments) :])
        msg = f"{kind.__qualname__}: {error}; it takes: {takes}"
        raise FactoryError(msg) from None
    try:
        return kind(*arguments, **options)
    except MlcError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        msg = f"{kind.__qualname__} does not take {dict(options)}: {error}"
        raise FactoryError(msg) from error
