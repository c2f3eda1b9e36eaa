"""State into objects: held against them first, so that a misfit changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.errors import CheckpointNotFoundError, MismatchError
from mlc_core.state.items import COMPILED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core.reader import CheckpointReader
    from mlc_core.records import Saved

__all__ = ["ModelFit", "Restored", "fit_model", "restore", "restore_model"]

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
    own = {key.replace(COMPILED, ""): value for key, value in model.state_dict().items()}
    shapes = {
        key: (tuple(state[key].shape), tuple(own[key].shape))
        for key in own
        if key in state and hasattr(own[key], "shape") and hasattr(state[key], "shape")
    }
    return ModelFit(
        missing=tuple(key for key in own if key not in state),
        unexpected=tuple(key for key in state if key not in own),
        mismatched=tuple(
            f"{key} saved as {saved}, the model has {wanted}"
            for key, (saved, wanted) in shapes.items()
            if saved != wanted
        ),
    )


def restore_model(model: Any, state: Mapping[str, Any], *, strict: bool, where: object) -> ModelFit:
    """Load *state* into *model*.

    Raises:
        MismatchError: If *strict* and anything is missing, unexpected or of another shape. The model is unchanged.
    """
    fit = fit_model(model, state)
    if strict and not fit.is_exact:
        msg = f"{where} does not fit the model: {fit}. Build the model it was saved from, or pass strict=False"
        raise MismatchError(msg)
    spelled = {key.replace(COMPILED, ""): key for key in model.state_dict()}
    wrong = {entry.split(" ", 1)[0] for entry in fit.mismatched}
    usable = {spelled[key]: value for key, value in state.items() if key in spelled and key not in wrong}
    model.load_state_dict(usable, strict=strict)
    return fit


def restore(
    reader: CheckpointReader, state: Mapping[str, Any], *, model: Any, optimizer: Any, scheduler: Any, strict: bool
) -> ModelFit:
    """Load *state*, read from *reader*, into those of the objects that are not None.

    Raises:
        CheckpointNotFoundError: If the checkpoint holds nothing for one of them.
        MismatchError: If one does not fit. Nothing was changed.
    """
    given = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    absent = [name for name, target in given.items() if target is not None and name not in state]
    if absent:
        msg = f"{reader.location} holds no {', '.join(absent)}; it holds {', '.join(state)}"
        raise CheckpointNotFoundError(msg)
    if optimizer is not None:
        _check_optimizer(optimizer, state["optimizer"], where=reader.location)
    fit = ModelFit()
    if model is not None:
        fit = restore_model(model, state["model"], strict=strict, where=reader.location)
    if optimizer is not None:
        optimizer.load_state_dict(state["optimizer"])
    if scheduler is not None:
        scheduler.load_state_dict(state["scheduler"])
    return fit


def _check_optimizer(optimizer: Any, state: Mapping[str, Any], *, where: object) -> None:
    saved = [len(group["params"]) for group in state["param_groups"]]
    wanted = [len(group["params"]) for group in optimizer.param_groups]
    if saved != wanted:
        msg = f"{where} holds an optimizer with {saved} parameters in its groups and this one has {wanted}"
        raise MismatchError(msg)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown}, … and {len(names) - SHOWN} more"
