"""Do the tensors of files fit a model, and if not, which, and what is probably meant? Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from mlc_hooks.hints import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Fit", "add_tied", "fit"]

SHOWN = 5
HOLDS = {  # which dtypes hold every value of another one
    "torch.float16": {"torch.float32", "torch.float64"},
    "torch.bfloat16": {"torch.float32", "torch.float64"},
    "torch.float32": {"torch.float64"},
    "torch.complex64": {"torch.complex128"},
    "torch.uint8": {"torch.int16", "torch.int32", "torch.int64", "torch.float16", "torch.float32", "torch.float64"},
    "torch.int8": {"torch.int16", "torch.int32", "torch.int64", "torch.float16", "torch.float32", "torch.float64"},
    "torch.int16": {"torch.int32", "torch.int64", "torch.float32", "torch.float64"},
    "torch.int32": {"torch.int64", "torch.float64"},
    "torch.float8_e4m3fn": {"torch.float16", "torch.bfloat16", "torch.float32", "torch.float64"},
    "torch.float8_e5m2": {"torch.float16", "torch.bfloat16", "torch.float32", "torch.float64"},
}


@attrs.frozen(kw_only=True)
class Fit:
    """What does not fit, in words."""

    missing: tuple[str, ...]
    """Names that the model has and the files have not."""
    unexpected: tuple[str, ...]
    """Names that the files have and the model has not."""
    reshaped: tuple[str, ...]
    rounded: tuple[str, ...]
    """Tensors whose values the model's dtype cannot hold."""
    torn: tuple[str, ...]
    """Tied names that have different values in the files."""
    hints: Mapping[str, str]

    @property
    def is_whole(self) -> bool:
        """Whether everything fits."""
        return not (self.missing or self.unexpected or self.reshaped or self.rounded or self.torn)

    def __str__(self) -> str:
        """Return a line for each tensor that does not, up to a few of each kind."""
        kinds = {
            "is missing in the files": self.missing,
            "is unknown to the model": self.unexpected,
            "": self.reshaped + self.rounded + self.torn,
        }
        lines = []
        for what, names in kinds.items():
            lines += [f"  {name} {what}".rstrip() + self.hints.get(name, "") for name in names[:SHOWN]]
            if len(names) > SHOWN:
                lines.append(f"  … and {len(names) - SHOWN} more")
        return "\n".join(lines)


def fit(own: Mapping[str, Any], given: Mapping[str, Any]) -> Fit:
    """Hold the tensors *given* against those of a model, *own*."""
    missing = tuple(name for name in own if name not in given)
    unexpected = tuple(name for name in given if name not in own)
    both = [(name, own[name], given[name]) for name in given if name in own]
    both = [one for one in both if hasattr(one[1], "shape") and hasattr(one[2], "shape")]
    return Fit(
        missing=missing,
        unexpected=unexpected,
        reshaped=tuple(
            f"{name} is {list(now.shape)} in the files and {list(was.shape)} in the model"
            for name, was, now in both
            if tuple(was.shape) != tuple(now.shape)
        ),
        rounded=tuple(
            f"{name} is {now.dtype} in the files, which {was.dtype} of the model cannot hold"
            for name, was, now in both
            if was.dtype != now.dtype and str(was.dtype) not in HOLDS.get(str(now.dtype), ())
        ),
        torn=tuple(_torn(own, given)),
        hints={
            **{name: nearest(name, unexpected) for name in missing[:SHOWN]},
            **{name: nearest(name, missing) for name in unexpected[:SHOWN]},
        },
    )


def add_tied(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return *given* with each tensor under all names that *own* has for it: files hold what is tied once."""
    complete = dict(given)
    for names in _ties(own):
        there = next((name for name in names if name in given), None)
        if there is not None:
            complete.update({name: given[there] for name in names if name not in given})
    return complete


def _ties(own: Mapping[str, Any]) -> list[list[str]]:
    """Return the names of each tensor that has several: the same object, or the same elements in memory."""
    groups: dict[object, list[str]] = {}
    for name, tensor in own.items():
        groups.setdefault(_identity(tensor), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _identity(tensor: Any) -> object:
    if not hasattr(tensor, "data_ptr"):
        return object()  # no tensor: it is like nothing else
    address = 0 if tensor.is_meta else tensor.data_ptr()
    if not address:
        return id(tensor)
    return (str(tensor.device), address, str(tensor.dtype), tuple(tensor.shape), tuple(tensor.stride()))


def _torn(own: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    found = []
    for names in _ties(own):
        there = [name for name in names if name in given]
        for name in there[1:]:
            first = given[there[0]]
            other = given[name]
            if other is not first and not (other.shape == first.shape and bool((other == first).all())):
                found.append(f"{name} is the same tensor as {there[0]} in the model, and another in the files")
    return found
