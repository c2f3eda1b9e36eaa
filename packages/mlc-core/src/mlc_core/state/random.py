"""Where every stream of random numbers is, so that a run goes on with the numbers that it would have drawn."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

from mlc_core.errors import ConfigurationError, MismatchError
from mlc_core.state.frameworks import require

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RandomState"]


class RandomState:
    """The global generators of Python, NumPy and torch, on every device in use, and *generators* of one's own.

    Save it as an item, `items={"random": RandomState(sampler=generator)}`, and restore it the same way. Neither torch
    nor NumPy is imported by it unless the state that it is given needs them, and no device is woken up. A generator
    that was not in use when the state was saved is left as it is.

    Args:
        generators: Other generators to save and restore, by names of one's own: `random.Random`,
            `numpy.random.Generator`, `numpy.random.RandomState` and `torch.Generator`, on any device.

    Raises:
        ConfigurationError: If one is not a generator whose state can be saved, as `random.SystemRandom`.
    """

    def __init__(self, **generators: object) -> None:
        self._generators = {name: _named(name, generator) for name, generator in generators.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return where each generator is: plain data, arrays and tensors."""
        state: dict[str, Any] = {"python": random.getstate()}
        numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        if numpy is not None:
            state["numpy"] = numpy.random.get_state(legacy=False)
        if torch is not None:
            state["torch"] = torch.get_rng_state()
            if torch.cuda.is_initialized():
                state["cuda"] = torch.cuda.get_rng_state_all()
            if torch.backends.mps.is_available():
                state["mps"] = torch.mps.get_rng_state()
        state["generators"] = {
            name: {"kind": kind, "state": _read(kind, one)} for name, (kind, one) in self._generators.items()
        }
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let each generator go on from where it was.

        Raises:
            ConfigurationError: If the state needs torch or NumPy, and it is not installed.
            MismatchError: If there are fewer devices than were in use, or other generators. Nothing was changed.
        """
        _check_devices(state)
        self._check_generators(state["generators"])
        random.setstate(state["python"])
        if "numpy" in state:
            require("numpy").random.set_state(state["numpy"])
        if "torch" in state:
            require("torch").set_rng_state(state["torch"])
        if "cuda" in state:
            for device, one in enumerate(state["cuda"]):
                require("torch").cuda.set_rng_state(one, device)
        if "mps" in state:
            require("torch").mps.set_rng_state(state["mps"])
        for name, (kind, one) in self._generators.items():
            _write(kind, one, state["generators"][name]["state"])

    def _check_generators(self, saved: Mapping[str, Any]) -> None:
        here = {name: kind for name, (kind, _) in self._generators.items()}
        there = {name: one["kind"] for name, one in saved.items()}
        if here != there:
            msg = f"the checkpoint holds the generators {_told(there)}, and given are {_told(here)}; give the same ones"
            raise MismatchError(msg)


def _check_devices(state: Mapping[str, Any]) -> None:
    needed = [name for name in ("torch", "numpy") if name in state]
    modules = {name: require(name) for name in needed}
    if state.get("cuda"):
        count = modules["torch"].cuda.device_count()
        if count < len(state["cuda"]):
            msg = (
                f"the checkpoint holds the random state of {len(state['cuda'])} CUDA devices, and there are {count} "
                "here; run with as many (see CUDA_VISIBLE_DEVICES), or leave this item out and seed anew"
            )
            raise MismatchError(msg)
    if "mps" in state and not modules["torch"].backends.mps.is_available():
        msg = "the checkpoint holds the random state of an MPS device; leave this item out here and seed anew"
        raise MismatchError(msg)
    if "numpy" in state:
        here, there = modules["numpy"].random.get_state(legacy=False)["bit_generator"], state["numpy"]["bit_generator"]
        if here != there:
            msg = f"NumPy's global generator was a {there} and is a {here} here; numpy.random.set_bit_generator sets it"
            raise MismatchError(msg)


def _named(name: str, generator: object) -> tuple[str, Any]:
    """Return *generator* after what it is, as two that can take each other's state are called the same."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if isinstance(generator, random.Random) and not isinstance(generator, random.SystemRandom):
        return "random.Random", generator
    if numpy is not None and isinstance(generator, numpy.random.Generator):
        return f"numpy {type(generator.bit_generator).__name__}", generator.bit_generator
    if numpy is not None and isinstance(generator, numpy.random.RandomState):
        return f"numpy RandomState of {generator.get_state(legacy=False)['bit_generator']}", generator
    if torch is not None and isinstance(generator, torch.Generator):
        return f"torch {generator.device.type}", generator
    kind = f"{type(generator).__module__}.{type(generator).__qualname__}"
    msg = f"{name} is a {kind}, and not a generator of Python, NumPy or torch whose state can be saved"
    raise ConfigurationError(msg)


def _read(kind: str, generator: Any) -> Any:
    if kind == "random.Random":
        return generator.getstate()
    if kind.startswith("torch "):
        return generator.get_state()
    return generator.get_state(legacy=False) if kind.startswith("numpy RandomState") else generator.state


def _write(kind: str, generator: Any, state: Any) -> None:
    if kind == "random.Random":
        generator.setstate(state)
    elif kind.startswith(("torch ", "numpy RandomState")):
        generator.set_state(state)
    else:
        generator.state = state


def _told(kinds: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in sorted(kinds.items())) or "none"
