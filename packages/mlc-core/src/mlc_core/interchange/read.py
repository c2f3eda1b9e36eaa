"""Other people's files into what a checkpoint holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core.errors import CheckpointNotFoundError, ConfigurationError, CorruptCheckpointError
from mlc_core.interchange.foreign import Foreign
from mlc_core.interchange.hub import read_index
from mlc_core.interchange.layouts import WHOLE, recognise
from mlc_core.interchange.pickled import read_pt
from mlc_core.naming import MANIFEST
from mlc_core.options import read_count, read_numbers
from mlc_core.serializers import Safetensors
from mlc_core.state.frameworks import bytes_to_tensor, require
from mlc_core.storage import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlc_core.manager import CheckpointManager

__all__ = ["import_checkpoint", "import_file", "import_pt"]

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
TENSORS = ".safetensors"
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE = ("model.safetensors", "pytorch_model.bin")
DERIVED = {"format", "total_size", "total_parameters"}  # what nearly every file says, and what it holds says as well


def import_pt(path: Path | str, *, verify: bool = True) -> Foreign:
    """Read a file of `torch.save` and say what is in it: a state_dict, a training checkpoint, Lightning's or another.

    Nothing in it is executed, and nothing is dropped without being named in `left_out`.

    Args:
        path: The file.
        verify: Hold it against the check sums in it first.

    Raises:
        CheckpointNotFoundError: If there is no such file.
        CorruptCheckpointError: If it is no such file, or torn, or changed.
        StateError: If it cannot be read without running code; says which.
        MismatchError: If nothing in it looks like a model or an optimizer.
    """
    path = Path(path)
    return recognise(read_pt(path, verify=verify), path.name)


def import_file(path: Path | str, *, verify: bool = True) -> Foreign:
    """Read a file of `torch.save`, a `.safetensors` file, or a directory in the hub's layout, by what its name says.

    Raises:
        CheckpointNotFoundError: If nothing like that is there.
        CorruptCheckpointError, StateError, MismatchError: As `import_pt`.
    """
    path = Path(path)
    if path.is_dir():
        return _import_directory(path, verify=verify)
    if path.suffix == TENSORS:
        tensors, metadata = _read_safetensors(path)
        return _as_model(path.name, "a safetensors file", tensors, metadata)
    if path.name in INDEXES:
        return _import_shards(path, verify=verify)
    if path.suffix not in PICKLED:
        known = ", ".join((*PICKLED, TENSORS))
        msg = f"{path} is not known by its name; a file ends in one of {known}, a directory is as the hub has them"
        raise CheckpointNotFoundError(msg)
    return import_pt(path, verify=verify)


def import_checkpoint(
    path: Path | str,
    manager: CheckpointManager,
    *,
    epoch: int | None = None,
    step: int | None = None,
    metrics: Mapping[str, float] | None = None,
    verify: bool = True,
) -> tuple[Path | str, Foreign]:
    """Commit what other people's file at *path* holds as a checkpoint of *manager*; return where, and what it was.

    Args:
        path: As `import_file` takes it.
        manager: Where it goes. Its retention applies as after every save.
        epoch: Instead of the one in the file, if there is one.
        step: The same.
        metrics: Beside those in the file.
        verify: Hold the file against the check sums in it first.

    Raises:
        CheckpointNotFoundError, CorruptCheckpointError, MismatchError: As `import_file`.
        StateError: If the file, or what is in it, cannot be had without running code or losing something.
        ConfigurationError: If an epoch, a step or a metric is none.
        DiskFullError, StorageError: If there is no room or the storage fails.
    """
    read_count("epoch", epoch), read_count("step", step)  # before a large file is read
    given = read_numbers(metrics)
    foreign = import_file(path, verify=verify)
    foreign = attrs.evolve(
        foreign,
        epoch=foreign.epoch if epoch is None else epoch,
        step=foreign.step if step is None else step,
        metrics={**foreign.metrics, **given},
    )
    place = manager.save_checkpoint(
        epoch=foreign.epoch,
        step=foreign.step,
        metrics=foreign.metrics,
        items=foreign.items,
        reason=f"imported from {foreign.source}",
    )
    if place is None:  # a reason is given, so that no strategy is asked
        msg = f"{manager.model_name} did not save what it was given a reason for"
        raise ConfigurationError(msg)
    return place, foreign


def _import_directory(path: Path, *, verify: bool) -> Foreign:
    if (path / MANIFEST).exists():
        msg = f"{path} is a checkpoint already; copy the directory to where it is wanted"
        raise ConfigurationError(msg)
    for name in (*SINGLE, *INDEXES):
        if (path / name).is_file():
            found = import_file(path / name, verify=verify)
            break
    else:
        msg = f"{path} holds none of {', '.join((*SINGLE, *INDEXES))}; name the file that is meant"
        raise CheckpointNotFoundError(msg)
    used = set(found.found)
    others = sorted(one.name for one in path.iterdir() if one.name not in {name, *used})
    left_out = {**found.left_out, **dict.fromkeys(others, "it is another file in the directory")}
    return attrs.evolve(found, source=path.resolve().name, left_out=left_out)


def _import_shards(path: Path, *, verify: bool) -> Foreign:
    shards, metadata = read_index(path)
    tensors: dict[str, Any] = {}
    for file, names in shards.items():
        if file.endswith(TENSORS):
            content: Mapping[str, Any] = _read_safetensors(path.parent / file)[0]
        else:
            content = recognise(read_pt(path.parent / file, verify=verify), file).items["model"]
        _check_shard(path.parent / file, content, names)
        tensors |= content
    foreign = _as_model(path.name, f"{len(shards)} shards of the hub", tensors, metadata)
    others = {name: what for name, what in foreign.found.items() if name != WHOLE}
    return attrs.evolve(foreign, found={**dict.fromkeys(sorted(shards), "model"), **others})


def _check_shard(path: Path, content: Iterable[str], names: Iterable[str]) -> None:
    missing, extra = sorted(set(names) - set(content)), sorted(set(content) - set(names))
    if missing or extra:
        what = f"lacks {missing[0]!r}" if missing else f"holds {extra[0]!r}"
        msg = f"{path} {what}, and the index says otherwise; get the shards and the index from one place"
        raise CorruptCheckpointError(msg)


def _as_model(source: str, layout: str, tensors: Mapping[str, Any], metadata: Mapping[str, Any]) -> Foreign:
    model, found = dict(tensors), {WHOLE: "model"}
    items: dict[str, Any] = {"model": model}
    tied = {name: str(kept) for name, kept in metadata.items() if name not in model and str(kept) in model}
    for name, kept in tied.items():  # as safetensors.torch.save_model writes them
        model[name] = model[kept]
        found[f"metadata {name}"] = f"model, tied to {kept}"
    rest = {name: value for name, value in metadata.items() if name not in tied and name not in DERIVED}
    if rest:
        items["rest"] = {"metadata": rest}
        found["metadata"] = "rest"
    return Foreign(source=source, layout=layout, items=items, found=found)


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors of a safetensors file, sharing its pages, and what it says of itself."""
    with files.failures(path, missing=CheckpointNotFoundError):
        data = files.view(path)
    require("torch")
    try:
        raw = Safetensors().load(data)
        header = json.loads(bytes(data[8 : 8 + int.from_bytes(data[:8], "little")]))
        tensors = {name: bytes_to_tensor(one) for name, one in raw.items()}
    except (AttributeError, LookupError, ValueError) as error:
        msg = f"{path} is no safetensors file that can be read here: {error}"
        raise CorruptCheckpointError(msg) from error
    metadata = header.get("__metadata__") or {}
    if not isinstance(metadata, dict) or not all(isinstance(one, str) for one in metadata.values()):
        msg = f"{path} has metadata that is not text by name"
        raise CorruptCheckpointError(msg)
    return tensors, metadata
