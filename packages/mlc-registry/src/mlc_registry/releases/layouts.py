"""Where the tensors of a model are: one file, shards, shards with the hub's index, or a checkpoint of MLC."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from mlc_registry.errors import SchemaError
from mlc_registry.releases.headers import read_json
from mlc_registry.requirements import require_path

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = ["INDEX", "Layout", "find_layout"]

CHECKPOINT = "mlc-checkpoint/"
SUFFIX = ".safetensors"
INDEX = ".safetensors.index.json"
"""How the names of the hub's indexes end."""
MAIN = "model"
"""What the weights are called where there is more than one thing: `model.safetensors`, and an item of checkpoints."""


@attrs.frozen(kw_only=True)
class Layout:
    """The files that hold a model's tensors, and how they belong together."""

    files: tuple[Path, ...]
    places: Mapping[str, str] | None = None
    """The name of the file by that of each tensor, where an index says so."""
    tree: Mapping[str, Any] | None = None
    """The state of the model as typed JSON, which refers to the tensors, where a checkpoint says so."""
    pieces: Mapping[str, tuple[str, tuple[int, ...]]] | None = None
    """The whole tensors, where a checkpoint holds them in pieces, as several ranks saved them."""
    others: tuple[str, ...] = ()
    """Files of a checkpoint that are not the model's, below its directory: what training goes on from."""


def find_layout(path: str | os.PathLike[str]) -> Layout:
    """Return where the tensors of *path*, a file or a directory, are. Reads no file of tensors.

    Raises:
        SchemaError: If there are none, or it is not clear which belong to the model.
    """
    place = Path(require_path(path, "where the tensors are", error=SchemaError))
    if place.is_file():
        if place.name.endswith(INDEX):
            return _read_index(place)
        return Layout(files=(place,))
    if not place.is_dir():
        _refuse(place, "there is no such file or directory")
    manifest = place / "manifest.json"
    if manifest.is_file():
        record = read_json(manifest)
        if isinstance(record, dict) and str(record.get("format")).startswith(CHECKPOINT):
            return _read_checkpoint(place, record)
    return _read_folder(place)


def _read_folder(place: Path) -> Layout:
    if (place / f"{MAIN}{SUFFIX}").is_file():
        return Layout(files=(place / f"{MAIN}{SUFFIX}",))
    names = sorted(one.name for one in place.iterdir())
    indexes = [name for name in names if name.endswith(INDEX)]
    if f"{MAIN}{INDEX}" in indexes or len(indexes) == 1:
        return _read_index(place / (f"{MAIN}{INDEX}" if f"{MAIN}{INDEX}" in indexes else indexes[0]))
    if indexes:
        _refuse(place, f"it holds several indexes: {', '.join(indexes)}")
    files = tuple(place / name for name in names if name.endswith(SUFFIX))
    if not files:
        _refuse(place, f"it holds no file that ends in {SUFFIX}")
    return Layout(files=files)


def _read_index(index: Path) -> Layout:
    document = read_json(index)
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict) or not all(_is_name(one) for one in places.values()):
        _refuse(index, "its weight_map does not name a file beside it for each tensor")
    return Layout(files=tuple(index.parent / name for name in sorted(set(places.values()))), places=places)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value not in {"", ".", ".."} and not {"/", "\\", "\0"} & set(value)


def _read_checkpoint(place: Path, record: Mapping[str, Any]) -> Layout:
    try:
        listed = {str(one["name"]): one["item"] for one in record["files"]}
    except (KeyError, TypeError):
        _refuse(place, "its manifest.json does not list its files")
    if not all(_is_name(name) for name in listed):
        _refuse(place, "its manifest.json lists files that are not beside it")
    mine = sorted(name for name, item in listed.items() if item == MAIN)
    own = {*mine, f"{MAIN}{INDEX}"}
    others = ("manifest.json", *(name for name in listed if name not in own))
    if "sharded.json" in listed:
        pieces = _read_pieces(place / "sharded.json")
        if pieces is not None:
            return Layout(files=tuple(place / name for name in mine), pieces=pieces, others=others)
    if not mine:
        said = record.get("items")
        items = ", ".join(map(str, said)) if said and isinstance(said, (list, dict)) else "nothing"
        _refuse(place, f"the checkpoint holds no tensors of an item {MAIN!r}; it holds {items}")
    tree = _read_tree(place / "state.json") if "state.json" in listed else None
    return Layout(files=tuple(place / name for name in mine), tree=tree, others=others)


def _read_tree(path: Path) -> Mapping[str, Any] | None:
    document = read_json(path)
    tree = document.get(MAIN) if isinstance(document, dict) else None
    return tree if isinstance(tree, dict) and not any(key.startswith("$") for key in tree) else None


def _read_pieces(path: Path) -> Mapping[str, tuple[str, tuple[int, ...]]] | None:
    document = read_json(path)
    try:
        items = document["tensors"]
        if MAIN not in items:
            return None
        return {
            str(name): (str(one["dtype"]), tuple(int(size) for size in one["shape"]))
            for name, one in items[MAIN].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        _refuse(path, "it does not say which tensors there are")


def _refuse(place: Path, why: str) -> NoReturn:
    msg = f"the tensors of {place} cannot be listed: {why}"
    raise SchemaError(msg)
