"""State into objects: held against them first, so that a misfit changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.errors import CheckpointNotFoundError, ConfigurationError, MismatchError
from mlc_core.fitting import ModelFit, check_kind, check_optimizer, dtype_of, fit_model, is_torchs, some, takes
from mlc_core.state.items import bare_model, match_names, model_state, plain_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlc_core.reader import CheckpointReader
    from mlc_core.records import Saved

__all__ = ["ModelFit", "Restored", "fit_model", "restore", "restore_model", "restore_part"]


@attrs.frozen(kw_only=True)
class Restored:
    """What came back from a checkpoint."""

    saved: Saved
    state: Mapping[str, Any]
    """The state of every item that was read, by name."""
    fit: ModelFit
    passed_over: tuple[str, ...] = ()
    """Checkpoints that would have been chosen and were corrupt, with the cause."""


def restore_model(model: Any, state: Mapping[str, Any], *, strict: bool, where: object) -> ModelFit:
    """Load *state* into *model*.

    Raises:
        MismatchError: If *strict* and anything is missing, unexpected, of another shape, or of a dtype that the model
            cannot hold exactly. The model is unchanged.
    """
    part = _Part("model", model, state)
    fit = part.check(strict=strict, where=where)
    _load([part], where=where)
    return fit


def restore_part(
    reader: CheckpointReader, module: Any, *, prefix: str = "", item: str = "model", strict: bool = True
) -> ModelFit:
    """Load into *module* what a checkpoint's *item* holds below *prefix*, and nothing else.

    `restore_part(open_checkpoint(path), model.encoder, prefix="encoder.")` gives a model its pretrained encoder.

    Args:
        reader: The checkpoint.
        module: The part of a model, or all of it.
        prefix: What the names begin with in the checkpoint and not in *module*, with its dot.
        item: Whose tensors: `model`, or another model among the items, as `ema`.
        strict: Refuse what does not fit exactly; else load what fits and report the rest.

    Raises:
        CheckpointNotFoundError: If the checkpoint has no such item, or nothing below *prefix*.
        CorruptCheckpointError: If it was changed.
        MismatchError: If it does not fit. The module is unchanged.
    """
    state = reader.load(only=(item,), copy=False)[item]
    if not isinstance(state, Mapping):
        state = _Part(item, module, state).check(strict=True, where=reader.location)  # raises, and says what it is
    below = {key.removeprefix(prefix): value for key, value in state.items() if str(key).startswith(prefix)}
    if not below:
        msg = f"{reader.location} holds nothing below {prefix!r} in its {item}; it holds {some(list(state))}"
        raise CheckpointNotFoundError(msg)
    return restore_model(module, below, strict=strict, where=reader.location)


def restore(
    reader: CheckpointReader,
    state: Mapping[str, Any],
    *,
    model: Any,
    optimizer: Any,
    scheduler: Any,
    strict: bool,
    items: Mapping[str, Any] | None = None,
) -> ModelFit:
    """Load *state*, read from *reader*, into those of the objects that are not None.

    What they get is their own: writing to it changes neither *state* nor another object that was loaded from it.

    Args:
        reader: Where *state* is from.
        state: The state of each item, by name.
        model: What to load into; None leaves it out.
        optimizer: The same.
        scheduler: The same.
        strict: Whether *model* must fit exactly. Everything else always must.
        items: Other objects with a `load_state_dict()`, by the names they were saved under.

    Raises:
        CheckpointNotFoundError: If the checkpoint holds nothing for one of them.
        ConfigurationError: If one of *items* has no `load_state_dict()`.
        MismatchError: If one does not fit. Nothing was changed, unless the message says what was.
    """
    where = reader.location
    own = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    twice = sorted(name for name, one in own.items() if one is not None and name in (items or {}))
    if twice:
        msg = f"{', '.join(twice)} is given twice, as an argument and among items"
        raise ConfigurationError(msg)
    named = {**own, **(items or {})}
    given = {name: target for name, target in named.items() if target is not None}
    absent = [name for name in given if name not in state]
    if absent:
        msg = f"{where} holds no {', '.join(absent)}; it holds {', '.join(state)}"
        raise CheckpointNotFoundError(msg)
    parts = [_Part(name, target, state[name]) for name, target in given.items()]
    fits = {part.name: part.check(strict=strict or part.name != "model", where=where) for part in parts}
    _load(sorted(parts, key=lambda part: part.is_model), where=where)
    return fits.get("model", ModelFit())


# ---------------------------------------------------------------------- one object and its state


@attrs.frozen
class _Part:
    """An object, and the state that it is to get."""

    name: str
    target: Any
    state: Any

    @property
    def is_model(self) -> bool:
        """Whether it takes its values one by one, by name; what was there before is overwritten in place."""
        return self.name == "model" or hasattr(self.target, "named_parameters")

    def check(self, *, strict: bool, where: object) -> ModelFit:
        """Hold the state against the object, and return what differs in a model."""
        if self.is_model:
            return self._check_model(strict=strict, where=where)
        if not hasattr(self.target, "load_state_dict"):
            kind = type(self.target).__name__
            msg = f"{self.name} is a {kind}, which has no load_state_dict(); take its state from `state[{self.name!r}]`"
            raise ConfigurationError(msg)
        if hasattr(self.target, "param_groups"):
            check_optimizer(self.name, self.target, self.state, where=where)
            return ModelFit()
        if self.state and not getattr(self.target, "is_enabled", lambda: True)():
            msg = f"{where} holds a state for the {self.name}, which is disabled here and would ignore it; leave it out"
            raise MismatchError(msg)
        check_kind(self.name, self.target.state_dict(), self.state, where=where)
        return ModelFit()

    def _check_model(self, *, strict: bool, where: object) -> ModelFit:
        if not isinstance(self.state, Mapping) or not all(isinstance(key, str) for key in self.state):
            msg = f"{where} holds a {type(self.state).__name__} as its {self.name}, which cannot be loaded into one"
            raise MismatchError(msg)
        unborn = [name for name, value in model_state(self.target).items() if getattr(value, "is_meta", False)]
        if unborn:
            msg = (
                f"the {self.name} has no memory for {some(unborn)}: it was built on the meta device; "
                "give it some with model.to_empty(device=…), then load"
            )
            raise MismatchError(msg)
        fit = fit_model(self.target, self.state)
        if strict and not fit.is_lossless:
            also = "; a model of the saved dtype can be converted once it is loaded" if fit.rounded else ""
            way = f"Build the model it was saved from, or pass strict=False{also}"
            msg = f"{where} does not fit the {self.name}: {fit}. {way}"
            raise MismatchError(msg)
        return fit

    def load(self) -> None:
        """Give the object its state."""
        if not self.is_model:
            self.target.load_state_dict(deepcopy(self.state, {id(one): one for one in _copied_anyway(self)}))
            return
        bare = bare_model(self.target)
        spelled = {plain_name(key): (key, value) for key, value in bare.state_dict().items()}
        found = {
            spelled[name]: self.state[key] for key, name in match_names(spelled, self.state).items() if name in spelled
        }
        usable = {
            key: value if dtype_of(value) is not None and not key.endswith("_extra_state") else deepcopy(value)
            for (key, own), value in found.items()
            if takes(own, value)
        }
        if len(usable) == len(spelled) == len(self.state):
            bare.load_state_dict(usable)
        else:
            bare.load_state_dict(usable, strict=False)

    def before(self) -> Any:
        """Return what undoes `load`; None where that would take another copy of a model."""
        if self.is_model:
            return None
        state = self.target.state_dict()
        return state if hasattr(self.target, "param_groups") else deepcopy(state)  # optimizers get new tensors


def _load(parts: Sequence[_Part], *, where: object) -> None:
    """Load each, and all or none as far as that can be undone: models come last."""
    done: list[tuple[_Part, Any]] = []
    for part in parts:
        done.append((part, part.before()))
        try:
            part.load()
        except Exception as error:
            changed = [one.name for one, before in done if one.is_model or not _undo(one, before)]
            left = f"; {', '.join(changed)} may hold a part of it already" if changed else "; nothing was changed"
            msg = f"{where}: the {part.name} did not take its state ({type(error).__name__}: {error}){left}"
            raise MismatchError(msg) from error


def _undo(part: _Part, before: Any) -> bool:
    try:
        part.target.load_state_dict(before)
    except Exception:  # the error that is told is the one that made this necessary
        return False
    return True


def _copied_anyway(part: _Part) -> Iterator[Any]:
    """Yield the tensors of an optimizer that torch itself copies, because their parameters are on another device."""
    optimizer, state = part.target, part.state
    if not is_torchs(optimizer) or any(one.is_cpu for group in optimizer.param_groups for one in group["params"]):
        return
    for values in state["state"].values():
        yield from (one for name, one in values.items() if dtype_of(one) is not None and name != "step")
