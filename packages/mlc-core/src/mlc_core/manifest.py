"""The commit record: a checkpoint is what its manifest says, and without one there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import orjson
import xxhash

from mlc_core.errors import ConfigurationError, CorruptCheckpointError, StateError
from mlc_core.naming import MANIFEST, check_name
from mlc_core.records import FileRecord, Saved
from mlc_core.state.tree import TensorSink, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FIELDS", "FORMAT", "LARGEST", "MOST", "decode_manifest", "encode_manifest"]

FORMAT = "mlc-checkpoint/2"
LARGEST = 64 << 20  # bytes; a manifest is a few kilobytes, and a hostile one must not fill the memory
MOST = 2**53  # no count reaches it; every reader of JSON holds smaller ones exactly
HEXADECIMAL = re.compile(r"[0-9a-f]{32}")


def encode_manifest(saved: Saved) -> bytes:
    """Return the manifest of *saved*: one JSON object, its own digest the last key.

    Raises:
        ConfigurationError, StateError: If something in it could not be read back.
    """
    sink = TensorSink()
    facts: dict[str, Any] = {"format": FORMAT}
    for field in attrs.fields(Saved):
        value = getattr(saved, field.name)
        facts[field.name] = dict(value) if isinstance(value, Mapping) else value
    facts["metrics"] = encode(facts["metrics"], sink, item="metrics")
    facts["strategy"] = encode(facts["strategy"], sink, item="strategy")
    if sink.tensors:
        msg = f"metrics and the strategy's state must be plain numbers, not tensors: {', '.join(sink.tensors)}"
        raise ConfigurationError(msg)
    facts["files"] = [attrs.asdict(one) for one in saved.files]
    try:
        body = orjson.dumps(facts, option=orjson.OPT_INDENT_2)
    except orjson.JSONEncodeError as error:
        msg = f"the manifest of {saved.name} cannot be written ({error}): look at its run, its reasons and its model"
        raise StateError(msg) from error
    return body[:-2] + b',\n  "digest": "' + _digest(body).encode() + b'"\n}'


def decode_manifest(data: bytes | memoryview, where: str) -> Saved:
    """Return what the manifest *data* of the checkpoint at *where* says.

    Raises:
        CorruptCheckpointError: If it is torn, changed, of a newer format or made to harm. Nothing in it is believed
            before its digest and the type of each field are checked.
    """
    try:
        facts = _read_facts(data)
        return Saved(**{name: read(facts[name]) for name, read in FIELDS.items()})
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        cause = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) and error.args else str(error)
        msg = f"{where}/{MANIFEST} cannot be believed: {cause}"
        raise CorruptCheckpointError(msg) from error


def _read_facts(data: bytes | memoryview) -> dict[str, Any]:
    if len(data) > LARGEST:
        msg = f"it has {len(data):,} bytes"
        raise ValueError(msg)
    raw = bytes(data)
    body, mark, ending = raw.rpartition(b',\n  "digest": "')
    if not mark or ending != _digest(body + b"\n}").encode() + b'"\n}':
        msg = "its digest does not match its content"
        raise ValueError(msg)
    facts = orjson.loads(raw)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        msg = (
            f"its format is {facts.get('format') if isinstance(facts, dict) else None!r}, this version reads {FORMAT!r}"
        )
        raise ValueError(msg)
    return facts


def _digest(body: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(body)


# ---------------------------------------------------------------------- one reader for each field


def _text(value: Any) -> str:
    if type(value) is not str:
        msg = f"{str(value)[:80]!r} is no text"
        raise TypeError(msg)
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MOST:
        msg = f"{str(value)[:80]!r} is no count"
        raise TypeError(msg)
    return value


def _number(value: Any) -> int:
    found = _count(value)
    if found >= MOST >> 1:
        msg = f"{found} is no number of a commit"  # the next one must be writable, too
        raise ValueError(msg)
    return found


def _seconds(value: Any) -> float:
    if type(value) is not float or not 0 <= value < MOST:
        msg = f"{str(value)[:80]!r} is no number of seconds"
        raise TypeError(msg)
    return value


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        msg = f"{str(value)[:80]!r} is no list"
        raise TypeError(msg)
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(one) for one in _list(value))


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        msg = f"{str(names)[:80]} names one twice"
        raise ValueError(msg)
    return names


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        msg = f"{str(value)[:80]!r} is neither true nor false"
        raise TypeError(msg)
    return value


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _plain(value: Any) -> dict[str, Any]:
    found = decode(value, {}, copy=False)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        msg = f"{str(value)[:80]!r} is no mapping of names"
        raise TypeError(msg)
    return found


def _metrics(value: Any) -> dict[str, float]:
    found = _plain(value)
    if any(type(number) is not float for number in found.values()):
        msg = f"{str(value)[:80]!r} are no metrics"
        raise TypeError(msg)
    return found


def _digest_text(value: Any) -> str:
    if not HEXADECIMAL.fullmatch(_text(value)):
        msg = f"{str(value)[:80]!r} is no digest"
        raise ValueError(msg)
    return str(value)


def _files(value: Any) -> tuple[FileRecord, ...]:
    found = tuple(_file(one) for one in _list(value))
    _distinct(tuple(one.name for one in found))
    return found


def _file(value: Any) -> FileRecord:
    return FileRecord(
        name=check_name(_text(value["name"])),
        size=_count(value["size"]),
        xxh3_128=_digest_text(value["xxh3_128"]),
        serializer=_text(value["serializer"]),
        item=_optional(_text)(value["item"]),
    )


FIELDS: dict[str, Callable[[Any], Any]] = {
    "model": _text,
    "name": lambda value: check_name(_text(value)),
    "id": _text,
    "sequence": _number,
    "run": _optional(_text),
    "epoch": _optional(_count),
    "step": _optional(_count),
    "epoch_ended": _truth,
    "metrics": _metrics,
    "reasons": _texts,
    "created_at": _text,
    "elapsed": _seconds,
    "items": lambda value: _distinct(_texts(value)),
    "files": _files,
    "versions": _plain,
    "strategy": _plain,
}
