"""State into objects: held against them first, so that a misfit changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.errors import CheckpointNotFoundError, MismatchError
from mlc_core.state.items import model_state, plain_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlc_core.reader import CheckpointReader
    from mlc_core.records import Saved

__all__ = ["ModelFit", "Restored", "fit_model", "restore", "restore_model"]

ORDER = ("model", "optimizer", "scheduler")
SCHEDULED = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "param_names"}  # come with use
SHOWN = 5  # names in a message; a misfit of ten thousand keys is told by its first few


@attrs.frozen(kw_only=True)
class ModelFit:
    """How the model in a checkpoint fits the model it is loaded into."""

    missing: tuple[str, ...] = ()
    """Names that the model has and the checkpoint has not."""
    unexpected: tuple[str, ...] = ()
    """Names that the checkpoint has and the model has not."""
    mismatched: tuple[str, ...] = ()
    """Names that both have, with the two shapes."""

    @property
    def is_exact(self) -> bool:
        """Whether there is nothing to report."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        """Return what does not fit, in one line."""
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.mismatched}
        return "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names)


@attrs.frozen(kw_only=True)
class Restored:
    """What came back from a checkpoint."""

    saved: Saved
    state: Mapping[str, Any]
    """The state of every item that was read, by name."""
    fit: ModelFit
    passed_over: tuple[str, ...] = ()
    """Checkpoints that would have been chosen and were corrupt, with the cause."""


def fit_model(model: Any, state: Mapping[str, Any]) -> ModelFit:
    """Compare the *state* of a model with *model*, without changing it."""
    own = model_state(model)
    return ModelFit(
        missing=tuple(key for key in own if key not in state),
        unexpected=tuple(key for key in state if key not in own),
        mismatched=tuple(
            f"{key} saved as {_shape(state[key])}, the model has {_shape(own[key])}" for key in _misshapen(own, state)
        ),
    )


def restore_model(model: Any, state: Mapping[str, Any], *, strict: bool, where: object) -> ModelFit:
    """Load *state* into *model*.

    Raises:
        MismatchError: If *strict* and anything is missing, unexpected or of another shape. The model is unchanged.
    """
    fit = _check_model(model, state, strict=strict, where=where)
    _load_model(model, state, fit, where=where)
    return fit


def restore(
    reader: CheckpointReader, state: Mapping[str, Any], *, model: Any, optimizer: Any, scheduler: Any, strict: bool
) -> ModelFit:
    """Load *state*, read from *reader*, into those of the objects that are not None.

    Raises:
        CheckpointNotFoundError: If the checkpoint holds nothing for one of them.
        MismatchError: If one does not fit. Nothing was changed, unless the message says what was.
    """
    where = reader.location
    given = dict(zip(ORDER, (model, optimizer, scheduler), strict=True))
    absent = [name for name, target in given.items() if target is not None and name not in state]
    if absent:
        msg = f"{where} holds no {', '.join(absent)}; it holds {', '.join(state)}"
        raise CheckpointNotFoundError(msg)
    fit = ModelFit() if model is None else _check_model(model, state["model"], strict=strict, where=where)
    if optimizer is not None:
        _check_optimizer(optimizer, state["optimizer"], where=where)
    if scheduler is not None:
        _check_kind("scheduler", scheduler.state_dict(), state["scheduler"], where=where)
    if model is not None:
        _load_model(model, state["model"], fit, where=where)
    for name in ORDER[1:]:
        if given[name] is not None:
            with _loading(name, where):
                given[name].load_state_dict(state[name])
    return fit


def _check_model(model: Any, state: Any, *, strict: bool, where: object) -> ModelFit:
    if not isinstance(state, Mapping):
        msg = f"{where} holds a {type(state).__name__} as its model, which cannot be loaded into one"
        raise MismatchError(msg)
    fit = fit_model(model, state)
    if strict and not fit.is_exact:
        msg = f"{where} does not fit the model: {fit}. Build the model it was saved from, or pass strict=False"
        raise MismatchError(msg)
    return fit


def _load_model(model: Any, state: Mapping[str, Any], fit: ModelFit, *, where: object) -> None:
    spelled = {plain_name(key): key for key in model.state_dict()}
    wrong = _misshapen(model_state(model), state)
    usable = {spelled[key]: value for key, value in state.items() if key in spelled and key not in wrong}
    with _loading("model", where):
        if fit.is_exact:
            model.load_state_dict(usable)
        else:
            model.load_state_dict(usable, strict=False)


def _misshapen(own: Mapping[str, Any], state: Mapping[str, Any]) -> Sequence[str]:
    """Return the names that both have with two shapes."""
    shapes = {key: (_shape(own[key]), _shape(state[key])) for key in own if key in state}
    return [key for key, (here, there) in shapes.items() if None not in {here, there} and here != there]


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if hasattr(value, "shape") else None


def _check_optimizer(optimizer: Any, state: Any, *, where: object) -> None:
    own = getattr(optimizer, "param_groups", None)
    if own is None:
        return  # not one of torch's
    found = state.get("param_groups") if isinstance(state, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(group, Mapping) and "params" in group for group in found):
        msg = f"{where} holds something else than an optimizer's state as its optimizer"
        raise MismatchError(msg)
    saved, wanted = ([len(group["params"]) for group in groups] for groups in (found, own))
    if saved != wanted:
        msg = f"{where} holds an optimizer with {saved} parameters in its groups and this one has {wanted}"
        raise MismatchError(msg)
    for there, here in zip(found, own, strict=True):
        _check_kind("optimizer", here, there, where=where)


def _check_kind(what: str, own: Any, saved: Any, *, where: object) -> None:
    """Refuse the state of another class. Versions of one class add names; two classes lack some of each other's."""
    if not isinstance(own, Mapping) or not isinstance(saved, Mapping):
        return
    lacks, extra = (
        [key for key in a if key not in b and key not in SCHEDULED] for a, b in ((own, saved), (saved, own))
    )
    if lacks and extra:
        msg = f"{where} holds the state of another {what}: one with {_some(extra)}; this one has {_some(lacks)}"
        raise MismatchError(msg)


@contextmanager
def _loading(what: str, where: object) -> Iterator[None]:
    try:
        yield
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        msg = (
            f"{where}: the {what} did not take its state ({type(error).__name__}: {error}); "
            f"what comes before it among {', '.join(ORDER)} was loaded already"
        )
        raise MismatchError(msg) from error


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown}, … and {len(names) - SHOWN} more"
