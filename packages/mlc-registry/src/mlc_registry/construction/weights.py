"""Published tensors into a model that was constructed. torch comes only with the tensors, through safetensors."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

from mlc_registry.construction.fitting import add_tied, fit
from mlc_registry.errors import ConstructionError, PartialWeightsWarning, SchemaError
from mlc_registry.releases.headers import read_json
from mlc_registry.releases.layouts import find_layout
from mlc_registry.releases.schemas import schema_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlc_registry.releases.layouts import Layout

__all__ = ["RECIPE", "load_weights"]

RECIPE = "model.json"
"""The file that is published where a version is a class with its configuration and nothing else."""


def load_weights(model: Any, path: Path, *, strict: bool, device: str, what: str) -> Any:
    """Give *model* the weights in *path*, the file or directory of *what*, and return it on *device*.

    Raises:
        ConstructionError: If there are weights and they cannot be loaded, or, with *strict*, do not fit.

    Warns:
        PartialWeightsWarning: If they do not fit, and *strict* is false.
    """
    if path.name == RECIPE and path.is_file() and _is_recipe(path):
        return _ready(model, device, what)
    if not hasattr(model, "load_state_dict"):
        if not callable(getattr(model, "load_weights", None)):
            kind = type(model).__name__
            msg = (
                f"the weights of {what} cannot be loaded: {kind} has neither load_state_dict(state) nor "
                f"load_weights(path); read {path} yourself"
            )
            raise ConstructionError(msg)
        model.load_weights(path)
        return model
    _give(model, _read_state(path, what), strict=strict, what=what)
    return _ready(model, device, what)


def _ready(model: Any, device: str, what: str) -> Any:
    """Return a torch module on *device*, ready to predict; anything else as it is."""
    if not hasattr(model, "named_parameters"):
        return model
    try:
        model.to(device)
    except Exception as error:
        msg = f"{what} cannot be brought to device {device!r}: {type(error).__name__}: {error}"
        raise ConstructionError(msg) from error
    model.eval()
    return model


def _is_recipe(path: Path) -> bool:
    try:
        record = read_json(path)
    except SchemaError:
        return False
    return isinstance(record, dict) and str(record.get("format")).startswith("mlc-model/")


# ---------------------------------------------------------------------- reading


def _read_state(path: Path, what: str) -> dict[str, Any]:
    try:
        layout = find_layout(path)
        if layout.pieces is not None:
            msg = (
                f"{what} is a checkpoint that several ranks saved in pieces; publish it whole: "
                "mlc checkpoints export PATH DIRECTORY, and register the directory"
            )
            raise ConstructionError(msg)
        schema_of(layout)  # refuses what contradicts itself before anything of it is read
    except SchemaError as error:
        msg = f"the weights of {what} cannot be loaded: {error}. Only safetensors are, as nothing in them can run code"
        raise ConstructionError(msg) from error
    library = _find_library(what)
    tensors: dict[str, Any] = {}
    for file in layout.files:
        try:
            tensors.update(library.load_file(file))
        except Exception as error:  # it has errors of its own, and torch may lack a dtype
            msg = f"the weights of {what} cannot be loaded: {file.name}: {type(error).__name__}: {error}"
            raise ConstructionError(msg) from error
    return tensors if layout.tree is None else _follow(layout, tensors, what)


def _find_library(what: str) -> Any:
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError as error:
        msg = f"the weights of {what} need safetensors and torch ({error}): pip install 'mlc-registry[torch]'"
        raise ConstructionError(msg) from error


def _follow(layout: Layout, tensors: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the state that the typed JSON of a checkpoint tells of, tied tensors under each of their names."""
    return {name: _decode(value, tensors, f"{what}: {name}") for name, value in (layout.tree or {}).items()}


def _decode(value: Any, tensors: Mapping[str, Any], where: str) -> Any:
    if isinstance(value, list):
        return [_decode(part, tensors, where) for part in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    if len(value) != 1 or not tag.startswith("$"):
        return {key: _decode(part, tensors, where) for key, part in value.items()}
    content = value[tag]
    try:
        if tag == "$tensor":
            return tensors[content]
        if tag in MAKERS:
            return MAKERS[tag](_decode(content, tensors, where))
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{where} cannot be restored: {tag} holds {str(content)[:80]!r} ({error})"
        raise ConstructionError(msg) from error
    return _refuse(where, tag)


MAKERS: dict[str, Any] = {
    "$complex": lambda parts: complex(*parts),
    "$dict": dict,
    "$float": float,
    "$frozenset": frozenset,
    "$int": lambda digits: int(digits, 16),
    "$ordered": dict,
    "$set": set,
    "$tuple": tuple,
}
"""What of the typed JSON of checkpoints can be made without knowing a framework."""


def _refuse(where: str, tag: str) -> NoReturn:
    msg = (
        f"{where} cannot be restored here: it is a {tag.removeprefix('$')}; "
        "construct the model yourself and let mlc_core load the checkpoint"
    )
    raise ConstructionError(msg)


# ---------------------------------------------------------------------- giving


def _give(model: Any, state: dict[str, Any], *, strict: bool, what: str) -> None:
    own = _own_state(model)
    if own is None:  # an object of its own kind, which knows what it takes
        _call(model, state, what, {})
        return
    unborn = [name for name, tensor in own.items() if getattr(tensor, "is_meta", False)]
    if unborn:
        msg = (
            f"{what} was constructed without memory for {unborn[0]} (on the meta device); construct it on one that has"
        )
        raise ConstructionError(msg)
    state = add_tied(own, state)
    found = fit(own, state)
    if found.is_whole:
        _call(model, state, what, {})
        return
    if strict and (found.reshaped or found.rounded or found.torn):
        _refuse_fit(what, found)
    if strict:  # a class may know older names of its own, so it is asked before it is refused
        try:
            model.load_state_dict(state)
        except Exception as error:
            _refuse_fit(what, found, error)
        return
    fitting = {name: value for name, value in state.items() if name in own and _same_shape(own[name], value)}
    if not fitting:
        _refuse_fit(what, found)
    _call(model, fitting, what, {"strict": False})
    warnings.warn(f"not all weights of {what} were loaded:\n{found}", PartialWeightsWarning, stacklevel=5)


def _own_state(model: Any) -> Mapping[str, Any] | None:
    if not hasattr(model, "named_parameters") or not hasattr(model, "state_dict"):
        return None
    found: Mapping[str, Any] = model.state_dict(keep_vars=True)
    return found


def _same_shape(own: Any, given: Any) -> bool:
    return tuple(getattr(own, "shape", ())) == tuple(getattr(given, "shape", ()))


def _call(model: Any, state: Mapping[str, Any], what: str, options: Mapping[str, Any]) -> None:
    try:
        model.load_state_dict(state, **options)
    except Exception as error:
        msg = f"{type(model).__name__} did not take the weights of {what}: {type(error).__name__}: {error}"
        raise ConstructionError(msg) from error


def _refuse_fit(what: str, found: Any, cause: Exception | None = None) -> NoReturn:
    msg = (
        f"the weights of {what} do not fit the model:\n{found}\n"
        "Load the version that this class was written for, or pass strict=False to load what fits"
    )
    raise ConstructionError(msg) from cause
