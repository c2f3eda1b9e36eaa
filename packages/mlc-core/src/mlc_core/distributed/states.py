"""The states of models and optimizers by the names of parameters, which do not depend on how many ranks there are."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
)

from mlc_core.distributed.tensors import dtype_of
from mlc_core.distributed.trees import names_in
from mlc_core.errors import ConfigurationError, CorruptCheckpointError, MismatchError
from mlc_core.fitting import check_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_core.distributed.layout import PiecewiseTensor

__all__ = ["load_model", "load_optimizer", "model_state_of", "optimizer_state_of", "optimizer_targets"]


def model_state_of(model: object) -> dict[str, Any]:
    """Return the state of *model* by plain names, sharing its memory.

    Raises:
        ConfigurationError: If it is no `torch.nn.Module`.
    """
    if not isinstance(model, torch.nn.Module):
        msg = f"a sharded checkpoint takes a torch.nn.Module as its model, not a {type(model).__name__}; use items"
        raise ConfigurationError(msg)
    return dict(get_model_state_dict(model))


def load_model(model: torch.nn.Module, state: dict[str, Any], *, strict: bool) -> None:
    """Give *model* its *state*, as `model_state_of` returned it."""
    set_model_state_dict(model, state, options=StateDictOptions(strict=strict))


def optimizer_state_of(model: object, optimizer: object) -> dict[str, Any]:
    """Return the state of *optimizer* by the names that its parameters have in *model*, sharing its memory.

    An optimizer that made no step yet has none, and has none afterwards.

    Raises:
        ConfigurationError: If there is no model to take the names from, or it is no optimizer of torch.
    """
    if not isinstance(model, torch.nn.Module) or not isinstance(optimizer, torch.optim.Optimizer):
        msg = "an optimizer is saved and loaded together with its model, which knows the names of its parameters"
        raise ConfigurationError(msg)
    fresh = not optimizer.state
    state: dict[str, Any] = dict(get_optimizer_state_dict(model, optimizer))
    if fresh:
        optimizer.state.clear()  # torch made a step of size zero to see what it would hold, and counted it
        state["state"] = {}
    return state


def optimizer_targets(
    model: torch.nn.Module, own: Mapping[str, Any], tree: Any, held: Mapping[str, PiecewiseTensor], *, where: object
) -> dict[str, torch.Tensor]:
    """Return new tensors for what the checkpoint holds of an optimizer, sharded as its parameters are.

    Args:
        model: Whose parameters it trains.
        own: What `optimizer_state_of` returned.
        tree: The typed JSON of the saved state.
        held: The tensors in the checkpoint.
        where: The checkpoint, for the error.

    Raises:
        CorruptCheckpointError: If *tree* is not the state of an optimizer.
        MismatchError: If it is that of another kind, or of one with other parameters or groups.
    """
    try:
        slots, groups = dict(tree["state"]), list(tree["param_groups"])
        saved = [list(one["params"]) for one in groups]
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{where} holds something else than an optimizer's state by names as its optimizer"
        raise CorruptCheckpointError(msg) from error
    wanted = [group["params"] for group in own["param_groups"]]
    if [sorted(map(str, one)) for one in saved] != [sorted(one) for one in wanted]:
        msg = (
            f"{where} holds an optimizer of {list(map(len, saved))} parameters in its groups, and this one of "
            f"{list(map(len, wanted))} has other ones; build it as it was when it was saved"
        )
        raise MismatchError(msg)
    for there, here in zip(groups, own["param_groups"], strict=True):
        check_kind("optimizer", here, there, where=where)
    parameters = model_state_of(model)
    targets = {name: _empty(held[name], None) for name in names_in(groups)}
    for parameter, part in slots.items():
        for name in names_in(part):
            targets[name] = _empty(held[name], parameters.get(parameter))
    return targets


def load_optimizer(optimizer: torch.optim.Optimizer, own: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Give *optimizer* the *state* by names, where *own* is what `optimizer_state_of` returned."""
    numbers = {name: number for number, name in enumerate(chain(*(one["params"] for one in own["param_groups"])))}
    groups = []
    for here, there in zip(own["param_groups"], state["param_groups"], strict=True):
        ordered = {key: here[key] for key in ("params", "param_names") if key in here}
        groups.append({**there, **ordered, "params": [numbers[name] for name in here["params"]]})
    packed = {numbers[name]: part for name, part in state["state"].items()}
    optimizer.load_state_dict({"state": packed, "param_groups": groups})


def _empty(held: PiecewiseTensor, like: Any) -> torch.Tensor:
    dtype = dtype_of(held.dtype)
    if isinstance(like, torch.Tensor) and tuple(like.shape) == held.shape:
        return torch.zeros_like(like, dtype=dtype)
    return torch.zeros(held.shape, dtype=dtype)
