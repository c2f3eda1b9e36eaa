"""Which tensors a model consists of, read from the headers of its files alone, and how two such lists differ."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import attrs

from mlc_registry.errors import SchemaError
from mlc_registry.releases.headers import read_header
from mlc_registry.releases.layouts import find_layout

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from mlc_registry.releases.layouts import Layout

__all__ = ["Schema", "SchemaDiff", "Tensor", "compare", "read_schema", "schema_of"]

Tensor: TypeAlias = "tuple[str, tuple[int, ...]]"
"""A dtype as safetensors spells it, and a shape."""
Schema: TypeAlias = "Mapping[str, Tensor]"
"""The tensors of a model by name."""
DEEPEST = 16
"""Parts of a name that are looked at to tell which tensor was renamed to which."""


@attrs.frozen(kw_only=True)
class SchemaDiff:
    """How the tensors of two models differ. A tensor that is in *renamed* is neither in *added* nor in *removed*."""

    added: Schema
    removed: Schema
    reshaped: Mapping[str, tuple[Tensor, Tensor]]
    """Those of another shape, with what they were and what they are."""
    retyped: Mapping[str, tuple[Tensor, Tensor]]
    """Those of the same shape and another dtype."""
    renamed: Mapping[str, tuple[str, Tensor]]
    """What is probably the same tensor under a new name, by its old one: same shape and dtype, and no other fits."""

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return self.fits and not self.retyped

    @property
    def fits(self) -> bool:
        """Whether a model that takes one takes the other: nothing differs but dtypes."""
        return not (self.added or self.removed or self.reshaped or self.renamed)

    @property
    def summary(self) -> str:
        """All of it in one line, as in `2 tensors added, 1 reshaped`."""
        counts = {kind: len(getattr(self, kind)) for kind in ("added", "removed", "reshaped", "retyped", "renamed")}
        parts = [f"{count} {kind}" for kind, count in counts.items() if count]
        if not parts:
            return "same tensors"
        number, _, rest = parts[0].partition(" ")
        return ", ".join([f"{number} {'tensor' if number == '1' else 'tensors'} {rest}", *parts[1:]])

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "same": self.same,
            "fits": self.fits,
            "added": {name: _facts(one) for name, one in self.added.items()},
            "removed": {name: _facts(one) for name, one in self.removed.items()},
            "reshaped": {name: [_facts(was), _facts(now)] for name, (was, now) in self.reshaped.items()},
            "retyped": {name: [_facts(was), _facts(now)] for name, (was, now) in self.retyped.items()},
            "renamed": {old: {"name": new, **_facts(one)} for old, (new, one) in self.renamed.items()},
        }

    def __str__(self) -> str:
        """Return a line for each tensor that differs."""
        lines = [
            *(f"- {name}  {_show(one)}" for name, one in self.removed.items()),
            *(f"+ {name}  {_show(one)}" for name, one in self.added.items()),
            *(f"~ {name}  {_show(was)} -> {_show(now)}" for name, (was, now) in self.reshaped.items()),
            *(f"~ {name}  {_show(was)} -> {_show(now)}" for name, (was, now) in self.retyped.items()),
            *(f"> {old} -> {new}  {_show(one)}  (probably)" for old, (new, one) in self.renamed.items()),
        ]
        return "\n".join(lines) or self.summary


def read_schema(path: str | os.PathLike[str]) -> Schema:
    """Return the tensors of *path*, sorted by name, from headers alone.

    Args:
        path: A safetensors file, an index of the hub (`model.safetensors.index.json`), a directory that holds either
            or the shards alone, or a checkpoint of MLC, of which the item `model` counts, tied tensors by all their
            names.

    Raises:
        SchemaError: If it is none of these, or its files contradict themselves or each other.
    """
    return schema_of(find_layout(path))


def schema_of(layout: Layout) -> Schema:
    """Return the tensors of *layout*, as `read_schema`.

    Raises:
        SchemaError: As `read_schema`.
    """
    if layout.pieces is not None:
        return dict(sorted(layout.pieces.items()))
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for file in layout.files:
        for name, tensor in read_header(file).items():
            if name in found:
                _refuse(file, f"tensor {name!r} is in {origin[name]} as well")
            found[name], origin[name] = tensor, file.name
    if layout.places is not None and origin != layout.places:
        wrong = min(set(origin.items()) ^ set(layout.places.items()))
        _refuse(layout.files[0].parent, f"the index and the files do not agree on where tensor {wrong[0]!r} is")
    if layout.tree is not None:
        found = _name_as_state(found, layout)
    return dict(sorted(found.items()))


def _name_as_state(found: dict[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Return the tensors *found* under the names that the model's state has for them, tied ones under each."""
    named: dict[str, Tensor] = {}
    used = set()
    for name, value in (layout.tree or {}).items():
        key = value.get("$tensor") if isinstance(value, dict) and len(value) == 1 else None
        if key is None:
            continue
        if not isinstance(key, str) or key not in found:
            _refuse(layout.files[0].parent, f"its state.json refers to a tensor {str(key)[:80]!r} that is not there")
        named[name] = found[key]
        used.add(key)
    return {**{name: one for name, one in found.items() if name not in used}, **named}


def compare(before: Schema, after: Schema) -> SchemaDiff:
    """Return how *after* differs from *before*."""
    removed = {name: before[name] for name in sorted(before.keys() - after.keys())}
    added = {name: after[name] for name in sorted(after.keys() - before.keys())}
    renamed = _pair(removed, added)
    taken = set(renamed.values())
    both = {name: (before[name], after[name]) for name in sorted(before.keys() & after.keys())}
    return SchemaDiff(
        added={name: one for name, one in added.items() if name not in taken},
        removed={name: one for name, one in removed.items() if name not in renamed},
        reshaped={name: (was, now) for name, (was, now) in both.items() if was[1] != now[1]},
        retyped={name: (was, now) for name, (was, now) in both.items() if was[1] == now[1] and was[0] != now[0]},
        renamed={old: (new, before[old]) for old, new in sorted(renamed.items())},
    )


def _pair(removed: Schema, added: Schema) -> dict[str, str]:
    """Return which name became which: those that alone on both sides have the same dtype, shape and end of the name.

    The longest ends come first, so that `encoder.1.weight` becomes `backbone.1.weight` where all layers are alike.
    """
    renamed: dict[str, str] = {}
    taken: set[str] = set()
    longest = max((name.count(".") + 1 for name in removed), default=0)
    for length in range(min(longest, DEEPEST), -1, -1):
        old = _by_end((item for item in removed.items() if item[0] not in renamed), length)
        new = _by_end((item for item in added.items() if item[0] not in taken), length)
        for key, names in old.items():
            others = new.get(key, ())
            if len(names) == len(others) == 1:
                renamed[names[0]] = others[0]
                taken.add(others[0])
    return renamed


def _by_end(tensors: Iterable[tuple[str, Tensor]], length: int) -> Mapping[tuple[Tensor, str], list[str]]:
    found = defaultdict(list)
    for name, tensor in tensors:
        parts = name.split(".")
        if len(parts) >= length:
            found[tensor, ".".join(parts[len(parts) - length :])].append(name)
    return found


def _facts(tensor: Tensor) -> dict[str, Any]:
    return {"dtype": tensor[0], "shape": list(tensor[1])}


def _show(tensor: Tensor) -> str:
    return f"{tensor[0]} {list(tensor[1])}"


def _refuse(place: object, why: str) -> NoReturn:
    msg = f"the tensors of {place} cannot be listed: {why}"
    raise SchemaError(msg)
