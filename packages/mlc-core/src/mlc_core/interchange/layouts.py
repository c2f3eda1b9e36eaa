"""How training programs lay out what they save, and which part of it is what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlc_core.errors import ConfigurationError, MismatchError, StateError
from mlc_core.interchange.foreign import Foreign
from mlc_core.options import read_count, read_numbers
from mlc_core.state import collect
from mlc_core.state.frameworks import tensor_types

__all__ = ["WHOLE", "recognise"]

NAMES = {
    "model": ("model", "state_dict", "model_state_dict", "model_state", "net", "network", "weights", "module"),
    "optimizer": ("optimizer", "optimizer_state_dict", "optimizer_state", "optim", "optim_state_dict"),
    "scheduler": ("scheduler", "scheduler_state_dict", "lr_scheduler", "lr_scheduler_state_dict", "scheduler_state"),
    "scaler": ("scaler", "scaler_state_dict", "grad_scaler", "grad_scaler_state_dict", "amp_scaler"),
    "ema": ("ema", "ema_state_dict", "model_ema", "ema_model", "state_dict_ema"),
}
ITEMS = {name: item for item, names in NAMES.items() for name in names}
EPOCHS = ("epoch",)
STEPS = ("global_step", "step", "iteration", "iter")
METRICS = ("metrics", "best_metrics")
MEASURED = re.compile(r"(.*[_/.-])?(loss|acc|accuracy|error|metric|score|f1|auc|dice|iou|miou|map|psnr|ssim|bleu)\d*")
LIGHTNING = "pytorch-lightning_version"
SHOWN = 12
WHOLE = "all of it"


def recognise(content: Any, source: str) -> Foreign:
    """Return what *content*, read from *source*, holds.

    Raises:
        MismatchError: If nothing in it looks like the parameters of a model or the state of an optimizer.
    """
    if _is_parameters(content):
        return Foreign(source=source, layout="a state_dict", items={"model": content}, found={WHOLE: "model"})
    if _is_optimizer(content):
        return Foreign(
            source=source, layout="an optimizer's state", items={"optimizer": content}, found={WHOLE: "optimizer"}
        )
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        msg = f"{source} holds a {type(content).__name__}, and not a model's parameters by name"
        raise MismatchError(msg)
    sorting = _Sorting(source)
    lightning = LIGHTNING in content and "state_dict" in content
    for name, value in content.items():
        if not (lightning and sorting.take_lightning(name, value)):
            sorting.take(name, value)
    if not sorting.items:
        names = ", ".join(list(content)[:SHOWN])
        msg = (
            f"{source} holds {names or 'nothing'}, and nothing among it that is known as a model's parameters "
            f"({', '.join(NAMES['model'])}); give the part that is meant to save_checkpoint"
        )
        raise MismatchError(msg)
    return sorting.result("a Lightning checkpoint" if lightning else "a training checkpoint")


def _is_parameters(value: Any) -> bool:
    """Say whether *value* is tensors by name; what a module calls its extra state may be anything."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    plain = [one for key, one in value.items() if not key.endswith("_extra_state")]
    return bool(plain) and all(isinstance(one, tensor_types()) for one in plain)


def _is_optimizer(value: Any) -> bool:
    return isinstance(value, Mapping) and {"state", "param_groups"} <= set(value)


class _Sorting:
    """The parts of one file, each put where it belongs."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.items: dict[str, Any] = {}
        self.rest: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.metrics: dict[str, float] = {}
        self.found: dict[str, str] = {}
        self.left_out: dict[str, str] = {}

    def take(self, name: str, value: Any) -> None:
        """Put *value* where its name and its form say."""
        item = ITEMS.get(name)
        fits = {"model": _is_parameters, "optimizer": _is_optimizer}.get(
            item or "", lambda one: isinstance(one, Mapping)
        )
        if item is not None and item not in self.items and fits(value):
            self._put(name, item, value)
        elif name in EPOCHS:
            self._count(name, "epoch", value)
        elif name in STEPS and "step" not in self.counts:
            self._count(name, "step", value)
        elif name in METRICS and isinstance(value, Mapping):
            self._measure(name, value, value)
        elif MEASURED.fullmatch(name) and not isinstance(value, (Mapping, str)):
            self._measure(name, {name: value}, value)
        else:
            self._keep(name, value)

    def take_lightning(self, name: str, value: Any) -> bool:
        """Put what only Lightning writes; say whether it was that."""
        many = {"optimizer_states": "optimizer", "lr_schedulers": "scheduler"}
        if name not in many or not isinstance(value, list):
            return False
        for position, one in enumerate(value):
            item = many[name] if position == 0 else f"{many[name]}_{position}"
            self._put(f"{name}[{position}]", item, one)
        if not value:
            self.left_out[name] = "it is empty"
        return True

    def result(self, layout: str) -> Foreign:
        """Return all of it."""
        items = {**self.items, "rest": self.rest} if self.rest else self.items
        return Foreign(
            source=self.source,
            layout=layout,
            items=items,
            epoch=self.counts.get("epoch"),
            step=self.counts.get("step"),
            metrics=self.metrics,
            found=self.found,
            left_out=self.left_out,
        )

    def _put(self, name: str, item: str, value: Any) -> None:
        self.items[item] = value
        self.found[name] = item

    def _count(self, name: str, what: str, value: Any) -> None:
        try:
            count = read_count(what, value)
        except ConfigurationError:
            count = None
        if count is None:
            self._keep(name, value)
        else:
            self.counts[what] = count
            self.found[name] = what

    def _measure(self, name: str, values: Mapping[Any, Any], value: Any) -> None:
        try:
            numbers = read_numbers(values)
        except ConfigurationError:
            numbers = {}
        if not numbers or self.metrics.keys() & numbers.keys():  # of two by one name, the second keeps its place
            self._keep(name, value)
        else:
            self.metrics |= numbers
            self.found[name] = "metrics"

    def _keep(self, name: str, value: Any) -> None:
        try:
            collect({"rest": {name: value}})
        except StateError as error:
            self.left_out[name] = str(error)
        else:
            self.rest[name] = value
            self.found[name] = "rest"
