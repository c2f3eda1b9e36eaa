"""Whether what was saved fits the objects that it is to be loaded into. Nothing is changed here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.errors import MismatchError
from mlc_core.state.items import match_names, model_state, plain_name

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ModelFit", "check_kind", "check_optimizer", "dtype_of", "fit_model", "is_torchs", "some", "takes"]

SCHEDULED = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "param_names"}  # come with use
MOMENTS = {  # what torch's own optimizers keep in the shape of the parameter
    "acc_delta", "exp_avg", "exp_avg_sq", "exp_inf", "grad_avg", "max_exp_avg_sq", "momentum_buffer", "square_avg",
}  # fmt: skip
SHOWN = 5  # names in a message; a misfit of ten thousand keys is told by its first few


@attrs.frozen(kw_only=True)
class ModelFit:
    """How the model in a checkpoint fits the model it is loaded into."""

    missing: tuple[str, ...] = ()
    """Names that the model has and the checkpoint has not."""
    unexpected: tuple[str, ...] = ()
    """Names that the checkpoint has and the model has not."""
    mismatched: tuple[str, ...] = ()
    """Names that both have, with the two shapes. They are not loaded."""
    converted: tuple[str, ...] = ()
    """Names with two dtypes of which the model's holds every value of the saved one, as float32 holds bfloat16."""
    rounded: tuple[str, ...] = ()
    """Names with two dtypes of which the model's does not: `strict=False` loads them, rounded."""

    @property
    def is_exact(self) -> bool:
        """Whether there is nothing to report."""
        return self.is_lossless and not self.converted

    @property
    def is_lossless(self) -> bool:
        """Whether the model gets everything that was saved, and nothing else: what `strict=True` asks for."""
        return not (self.missing or self.unexpected or self.mismatched or self.rounded)

    def __str__(self) -> str:
        """Return what does not fit, in one line."""
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self.mismatched,
            "that would be rounded": self.rounded,
            "of another dtype that loses nothing": self.converted,
        }
        return "; ".join(f"{len(names)} {kind}: {some(names)}" for kind, names in kinds.items() if names)


def fit_model(model: Any, state: Mapping[str, Any]) -> ModelFit:
    """Compare the *state* of a model with *model*, without changing it.

    Names are compared without what `torch.compile` and parallel wrappers put before them, on both sides.
    """
    own = model_state(model)
    names = match_names(own, state)
    both = {name: (own[name], state[key]) for key, name in names.items() if name in own}
    wrong = {name: pair for name, pair in both.items() if not takes(*pair)}
    dtypes = {name: (dtype_of(here), dtype_of(there)) for name, (here, there) in both.items() if name not in wrong}
    other = {name: pair for name, pair in dtypes.items() if None not in pair and pair[0] != pair[1]}
    found = set(names.values())
    return ModelFit(
        missing=tuple(name for name in own if name not in found),
        unexpected=tuple(key for key, name in names.items() if name not in own),
        mismatched=tuple(_told(name, _form(here), _form(there)) for name, (here, there) in wrong.items()),
        converted=tuple(_told(name, *pair) for name, pair in other.items() if _holds(*pair)),
        rounded=tuple(_told(name, *pair) for name, pair in other.items() if not _holds(*pair)),
    )


def _told(name: str, here: object, there: object) -> str:
    return f"{name} saved as {there}, the model has {here}"


# ---------------------------------------------------------------------- tensors


def takes(here: Any, there: Any) -> bool:
    """Say whether what a model has *here* takes what was saved *there*; what has no shape takes anything."""
    return _shape(here) is None or _shape(here) == _shape(there)


def _shape(value: Any) -> tuple[int, ...] | None:
    try:
        return tuple(value.shape)
    except (AttributeError, RuntimeError):  # a lazy parameter gets its shape from a checkpoint, or its first batch
        return None


def _form(value: Any) -> object:
    shape = _shape(value)
    return type(value).__name__ if shape is None else shape


def dtype_of(value: Any) -> Any:
    """Return the dtype of a torch tensor; None of anything else."""
    torch = sys.modules.get("torch")
    return value.dtype if torch is not None and isinstance(value, torch.Tensor) else None


def _holds(here: Any, there: Any) -> bool:
    """Say whether the torch dtype *here* holds every value of the dtype *there*."""
    torch = sys.modules["torch"]
    if here.is_complex != there.is_complex or here.is_floating_point != there.is_floating_point:
        return False
    if torch.bool in {here, there}:
        return False
    if here.is_floating_point and here.itemsize == 1:
        return False  # each lacks something of each other, such as infinities, which torch.finfo does not tell
    if not (here.is_complex or here.is_floating_point):
        ours, theirs = torch.iinfo(here), torch.iinfo(there)
        return bool(ours.min <= theirs.min and theirs.max <= ours.max)
    ours, theirs = torch.finfo(here), torch.finfo(there)
    return bool(ours.eps <= theirs.eps and theirs.max <= ours.max and ours.tiny * ours.eps <= theirs.tiny * theirs.eps)


# ---------------------------------------------------------------------- optimizers and the rest


def is_torchs(optimizer: Any) -> bool:
    """Say whether it is one of torch's own optimizers, whose ways are known."""
    return type(optimizer).__module__.startswith("torch.optim") and hasattr(optimizer, "param_groups")


def check_optimizer(what: str, optimizer: Any, state: Any, *, where: object) -> None:
    """Refuse a *state* that *optimizer* would not take, or would take for something else.

    Raises:
        MismatchError: If groups, parameters, their order, or the shapes and dtypes of what is kept of them differ.
    """
    own = optimizer.param_groups
    found = state.get("param_groups") if isinstance(state, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(group, Mapping) and "params" in group for group in found):
        raise _no_optimizer(what, where)
    saved, wanted = ([len(group["params"]) for group in groups] for groups in (found, own))
    if saved != wanted:
        msg = f"{where} holds an optimizer with {saved} parameters in its groups and this one has {wanted}"
        raise MismatchError(msg)
    for there, here in zip(found, own, strict=True):
        check_kind(what, here, there, where=where)
        _check_order(what, here, there, where=where)
    if not is_torchs(optimizer):
        return
    kept = state.get("state", {})
    if not isinstance(kept, Mapping) or not all(isinstance(one, Mapping) for one in kept.values()):
        raise _no_optimizer(what, where)
    for there, here in zip(found, own, strict=True):
        for position, parameter in zip(there["params"], here["params"], strict=True):
            _check_moments(what, position, kept.get(position, {}), parameter, where=where)


def _no_optimizer(what: str, where: object) -> MismatchError:
    return MismatchError(f"{where} holds something else than an optimizer's state as its {what}")


def _check_order(what: str, own: Mapping[str, Any], saved: Mapping[str, Any], *, where: object) -> None:
    """Refuse parameters in another order: torch goes by position, and would give each the other's moments."""
    here, there = own.get("param_names"), saved.get("param_names")
    if not here or not there or len(here) != len(there):
        return  # an optimizer knows names only if it was given named_parameters()
    ours = [plain_name(name) for name in here]
    names = match_names(ours, there)
    moved = [f"{names[name]} where {mine} is" for mine, name in zip(ours, there, strict=True) if names[name] != mine]
    if moved:
        msg = f"{where} holds the parameters of the {what} in another order: {some(moved)}; give them in the saved one"
        raise MismatchError(msg)


def _check_moments(what: str, position: int, moments: Mapping[str, Any], parameter: Any, *, where: object) -> None:
    """Refuse what torch would take without a word: moments of another shape, or of a dtype that it would round."""
    for name, value in moments.items():
        wanted, there = dtype_of(parameter), dtype_of(value)
        if name in MOMENTS and there is not None and not takes(parameter, value):
            msg = (
                f"{where} holds the {what}'s {name} of parameter {position} as {_form(value)}, the parameter is "
                f"{_form(parameter)}; give the parameters in the order of the model that was saved"
            )
            raise MismatchError(msg)
        floats = there is not None and there.is_floating_point and wanted.is_floating_point
        if floats and name != "step" and not _holds(wanted, there):
            msg = (
                f"{where} holds the {what}'s {name} of parameter {position} as {there}, and torch would round it to "
                f"the parameter's {wanted}; build the model as it was saved, or leave the {what} out"
            )
            raise MismatchError(msg)


def check_kind(what: str, own: Any, saved: Any, *, where: object) -> None:
    """Refuse the state of another class. Versions of one class add names; two classes lack some of each other's.

    Raises:
        MismatchError: If each of the two has names that the other has not.
    """
    if not isinstance(own, Mapping) or not isinstance(saved, Mapping):
        return
    lacks, extra = (
        [key for key in a if key not in b and key not in SCHEDULED] for a, b in ((own, saved), (saved, own))
    )
    if lacks and extra:
        msg = f"{where} holds the state of another {what}: one with {some(extra)}; this one has {some(lacks)}"
        raise MismatchError(msg)


def some(names: Sequence[Any]) -> str:
    """Return the first few of *names*, and how many more there are."""
    shown = ", ".join(map(str, names[:SHOWN]))
    return shown if len(names) <= SHOWN else f"{shown}, … and {len(names) - SHOWN} more"
