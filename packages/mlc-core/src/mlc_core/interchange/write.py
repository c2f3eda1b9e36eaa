"""A checkpoint's item into files that others read: safetensors, the hub's layout, a file of `torch.save`."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from mlc_core.errors import CheckpointNotFoundError, ConfigurationError, CorruptCheckpointError
from mlc_core.interchange.hub import FILE, INDEX, encode_index, is_ours, name_shard, parse_size, split
from mlc_core.interchange.publish import check_absent, partial, publish, refuse_checkpoint
from mlc_core.serializers import Safetensors
from mlc_core.state.frameworks import require
from mlc_core.storage import files

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from mlc_core.protocols import Buffer, TensorBytes
    from mlc_core.reader import CheckpointReader

__all__ = ["export_pt", "export_safetensors"]

SUFFIX = ".safetensors"


def export_safetensors(
    reader: CheckpointReader,
    target: Path | str,
    *,
    item: str = "model",
    max_shard_size: int | str | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write the tensors of *item* as the hub has them, verified while they are read, and return the files.

    Tied parameters are written once, as the format wants it; the file's metadata says for each other name which one it
    is tied to, as `safetensors.torch.save_model` does. Needs no torch.

    Args:
        reader: The checkpoint.
        target: One file, if it ends in `.safetensors`; else a directory, for `model.safetensors` or its shards.
        item: Which one: `model`, or another one that is tensors by name, as `ema`.
        max_shard_size: The largest file in a directory, as `5GB`; above it, `model-00001-of-00003.safetensors`, …, and
            `model.safetensors.index.json` are written. A tensor is never divided.
        overwrite: Replace what an earlier export left at *target*.

    Raises:
        CheckpointNotFoundError: If the checkpoint has no such item.
        CorruptCheckpointError: If it was changed.
        ConfigurationError: If something in the item is no tensor, or *max_shard_size* is given for one file.
        EntryExistsError: If there is something at *target*, and not *overwrite*.
        DiskFullError, StorageError: If there is no room or the file system fails.
    """
    target = Path(target)
    size = None if max_shard_size is None else parse_size(max_shard_size)
    one_file = target.suffix == SUFFIX
    if one_file and size is not None:
        msg = f"{target} is one file, and max_shard_size={max_shard_size!r} is for a directory; leave one of them out"
        raise ConfigurationError(msg)
    if not overwrite:
        for path in [target] if one_file else _layout(target):
            check_absent(path)
    tensors, tied = _read(reader, item)
    if one_file or size is None:
        path = target if one_file else target / FILE
        _write({path: _pieces(tensors, tied)}, overwrite=overwrite)
        if not one_file:
            _remove(_layout(target), keep={path})
        return (path,)
    shards = split(tensors, size)
    contents = {
        target / name_shard(number, len(shards)): _pieces(shard, tied if len(shards) == 1 else {})
        for number, shard in enumerate(shards, 1)
    }
    if len(shards) > 1:
        index = encode_index(shards, tied)
        contents[target / INDEX] = len(index), [index]
    _write(contents, overwrite=overwrite, first_gone=[target / INDEX, target / FILE] if len(shards) > 1 else [])
    _remove(_layout(target), keep=set(contents))
    return tuple(contents)


def export_pt(
    reader: CheckpointReader, target: Path | str, *, item: str | None = "model", overwrite: bool = False
) -> Path:
    """Write what a checkpoint holds with `torch.save`, verified while it is read, and return the file.

    Args:
        reader: The checkpoint.
        target: The file.
        item: One item as it is, as a state_dict; None writes all of them by name, with epoch, step and metrics.
        overwrite: Replace a file at *target*.

    Raises:
        CheckpointNotFoundError: If the checkpoint has no such item.
        CorruptCheckpointError: If it was changed.
        ConfigurationError: If torch is not installed.
        EntryExistsError: If there is something at *target*, and not *overwrite*.
        DiskFullError, StorageError: If there is no room or the file system fails.
    """
    torch, target = require("torch"), Path(target)
    if not overwrite:
        check_absent(target)
    content: Any = reader.load(only=None if item is None else (item,), copy=False)
    if item is not None:
        content = content[item]
    else:
        saved = reader.saved
        content |= {"epoch": saved.epoch, "step": saved.step, "metrics": dict(saved.metrics)}
    files.make_directory(target.parent)
    with partial(target) as beside:
        with files.failures(target), beside.open("xb") as opened:
            torch.save(content, opened)
            opened.flush()
            os.fsync(opened.fileno())
        publish(beside, target, overwrite=overwrite)
    files.sync_directory(target.parent)
    return target


def _read(reader: CheckpointReader, item: str) -> tuple[dict[str, TensorBytes], dict[str, str]]:
    """Return the tensors of *item* by the names of its parameters, and the other names that tied ones have."""
    if item not in reader.saved.items:
        msg = f"{reader.location} holds no {item}; it holds {', '.join(reader.saved.items)}"
        raise CheckpointNotFoundError(msg)
    raw = reader.raw_tensors(item)
    tensors: dict[str, TensorBytes] = {}
    tied: dict[str, str] = {}
    kept: dict[str, str] = {}
    for name, reference in _references(reader, item):
        if reference in kept:
            tied[name] = kept[reference]
            continue
        kept[reference] = name
        try:
            tensors[name] = raw[reference]
        except KeyError as error:
            msg = f"{reader.location}: {item} refers to a tensor {reference!r} that no file of it holds"
            raise CorruptCheckpointError(msg) from error
    return tensors, tied


def _references(reader: CheckpointReader, item: str) -> list[tuple[str, str]]:
    """Return the names in *item*, and what each tensor is called in its files."""
    tree = reader.raw_tree(item)
    pairs = list(tree.items()) if isinstance(tree, dict) else []
    if len(pairs) == 1 and pairs[0][0] in {"$dict", "$ordered"}:
        pairs = pairs[0][1]
    found = [(name, _reference(value)) for name, value in pairs]
    unfit = [name for name, reference in found if reference is None or not isinstance(name, str)]
    if unfit or not found:
        what = f"{unfit[0]!r} in it is no tensor" if unfit else "it is not"
        msg = f"{item} of {reader.location} must be tensors by name, and {what}; export_pt writes anything"
        raise ConfigurationError(msg)
    return found


def _reference(value: Any) -> Any:
    return value.get("$tensor", value.get("$array")) if isinstance(value, dict) else None


def _pieces(tensors: Mapping[str, TensorBytes], metadata: Mapping[str, str]) -> tuple[int, Sequence[Buffer]]:
    """Return the size and the content of a safetensors file with *metadata*."""
    size, pieces = Safetensors().dump(tensors)
    start, *rest = pieces
    if not metadata:
        return size, [start, *rest]
    header = orjson.loads(bytes(start[8:]))
    header["__metadata__"] |= metadata
    text = orjson.dumps(header)
    text += b" " * (-(len(text) + 8) % 8)
    begin = len(text).to_bytes(8, "little") + text
    return size - len(start) + len(begin), [begin, *rest]


def _layout(directory: Path) -> list[Path]:
    return [one for one in directory.iterdir() if is_ours(one.name)] if directory.is_dir() else []


def _write(
    contents: Mapping[Path, tuple[int, Sequence[Buffer]]], *, overwrite: bool, first_gone: Sequence[Path] = ()
) -> None:
    """Write all files, then let them appear, in order; an index comes last and goes first."""
    directory = next(iter(contents)).parent
    refuse_checkpoint(directory)
    files.make_directory(directory)
    files.check_room(directory, sum(size for size, _ in contents.values()))
    with ExitStack() as stack:
        written = {path: stack.enter_context(partial(path)) for path in contents}
        for path, (size, pieces) in contents.items():
            files.write_durably(written[path], size, pieces)
        if overwrite:
            _remove(first_gone)
        for path, beside in written.items():
            publish(beside, path, overwrite=overwrite)
    files.sync_directory(directory)


def _remove(paths: Iterable[Path], *, keep: Container[Path] = ()) -> None:
    """Remove what a former export left, so that nobody reads a part of it with a part of this one."""
    for path in paths:
        if path not in keep:
            with files.failures(path):
                path.unlink(missing_ok=True)
                files.sync_directory(path.parent)
