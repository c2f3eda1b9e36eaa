"""The facts that strategies, retention and commands look at: frozen, plain, without behaviour of their own."""

from __future__ import annotations

import math
from collections import deque
from itertools import repeat
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import attrs

from mlc_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = ["Decision", "FileRecord", "Moment", "Monitor", "Saved"]

Mode = Literal["min", "max"]


class Rest(Protocol):
    """Where the fields of records are that were not needed yet."""

    def read(self, position: int) -> Mapping[str, Any]:
        """Return the fields of the record at *position*."""


def _frozen(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(values))


@attrs.frozen(kw_only=True)
class Monitor:
    """The metric that says which checkpoint is best, and whether more of it is better."""

    metric: str
    mode: Mode = attrs.field()

    @mode.validator
    def _check_mode(self, _: object, value: str) -> None:
        if value not in {"min", "max"}:
            msg = f"mode={value!r} for {self.metric!r} must be 'min' or 'max'"
            raise ConfigurationError(msg)

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """Return the monitored value, or None where it is missing or not a number: such a one is never best."""
        value = metrics.get(self.metric)
        return None if value is None or math.isnan(value) else value

    def better(self, value: float, than: float) -> bool:
        """Say whether *value* is strictly better *than* the other."""
        return value > than if self.mode == "max" else value < than


@attrs.frozen(kw_only=True)
class FileRecord:
    """One file of a checkpoint, as it was when it was committed."""

    name: str
    size: int
    """Bytes."""
    xxh3_128: str
    """XXH3 128-bit digest of the content, 32 hexadecimal digits."""
    serializer: str
    """What reads it: a name among `serializers()`, or `json` for the state tree and the index of shards."""
    item: str | None = None
    """Whose tensors it holds, as `model`; None for what is no item's alone."""


class Unfolding:
    """A record some of whose fields may be read from `_rest` when one of them is looked at first."""

    __slots__ = ("_position", "_rest")
    if TYPE_CHECKING:
        _position: int
        _rest: Rest

    @classmethod
    def folded(cls, rest: Rest, count: int) -> list[Self]:
        """Return *count* records of which no field is set yet, in the order of *rest*."""
        made = list(map(cls.__new__, repeat(cls, count)))
        slots = vars(Unfolding)
        deque(map(slots["_rest"].__set__, made, repeat(rest)), maxlen=0)
        deque(map(slots["_position"].__set__, made, range(count)), maxlen=0)
        return made

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            """Read what was not set yet; of a record that was made in the usual way nothing is."""
            if name.startswith("_") or not hasattr(self, "_rest"):
                msg = f"{type(self).__name__!r} object has no attribute {name!r}"
                raise AttributeError(msg)
            for field, value in self._rest.read(self._position).items():
                object.__setattr__(self, field, value)
            return object.__getattribute__(self, name)


@attrs.frozen(kw_only=True)
class Saved(Unfolding):
    """A committed checkpoint: what its manifest says."""

    model: str
    name: str
    """The name of its directory, as `epoch_12`."""
    id: str
    """Unique for ever; a name may come again, an id may not."""
    sequence: int
    """The order of commits in this directory. Nothing is ever ordered by name or by clock."""
    run: str | None = None
    epoch: int | None = None
    step: int | None = None
    epoch_ended: bool = True
    """False when it was saved in the middle of its epoch."""
    metrics: Mapping[str, float] = attrs.field(factory=dict, converter=_frozen)
    reasons: tuple[str, ...] = ()
    """Why it was saved."""
    created_at: str
    """UTC, ISO 8601. For people."""
    elapsed: float = 0.0
    """Seconds of running time since the first checkpoint here, over all restarts, by a clock that never goes back."""
    items: tuple[str, ...] = ()
    """What it holds: `model`, `optimizer`, …"""
    files: tuple[FileRecord, ...] = ()
    versions: Mapping[str, str] = attrs.field(factory=dict, converter=_frozen)
    """Versions of Python and of the packages that wrote it."""
    strategy: Mapping[str, Any] = attrs.field(factory=dict, converter=_frozen)
    """The save strategy's own state after this save."""

    @property
    def size(self) -> int:
        """Bytes of all its files, the manifest not counted."""
        return sum(one.size for one in self.files)


@attrs.frozen(kw_only=True)
class Moment:
    """What a save strategy may know when it is asked: the present, and what was saved before."""

    model: str
    epoch: int | None
    step: int | None
    epoch_ended: bool
    """Whether the epoch is complete; false in the middle of one."""
    metrics: Mapping[str, float] = attrs.field(converter=_frozen)
    monitor: Monitor | None
    best: Saved | None
    """The best checkpoint so far by *monitor*."""
    latest: Saved | None
    elapsed: float = 0.0
    """Seconds of running time so far, as `Saved.elapsed`."""
    save_seconds: float | None = None
    """How long the last save of this process kept the caller waiting; None before the first one."""
    saving: bool = False
    """Whether an asynchronous save is still under way."""
    exception: str | None = None
    """What ends the training, as `KeyboardInterrupt`; None while it goes on."""

    @property
    def improved(self) -> bool:
        """Whether the monitored metric is better than it was at any checkpoint so far."""
        if self.monitor is None:
            return False
        value = self.monitor.value(self.metrics)
        if value is None:
            return False
        before = None if self.best is None else self.monitor.value(self.best.metrics)
        return before is None or self.monitor.better(value, before)


@attrs.frozen(kw_only=True)
class Decision:
    """What retention decided about one checkpoint, and why."""

    saved: Saved
    keep: bool
    reason: str
