"""The processes that save and load together, and how what one of them decides or suffers reaches all."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from mlc_core import errors
from mlc_core.errors import CheckpointError, ConfigurationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.distributed import ProcessGroup

__all__ = ["Ranks", "ranks_of"]

T = TypeVar("T")
R = TypeVar("R")


@attrs.frozen
class _Failure:
    """What went wrong on one rank, in words that every other one understands."""

    rank: int
    kind: str
    text: str

    @classmethod
    def of(cls, error: BaseException, rank: int) -> _Failure:
        for kind in type(error).__mro__:
            if kind.__name__ in errors.__all__ and getattr(errors, kind.__name__) is kind:
                return cls(rank, kind.__name__, str(error))
        return cls(rank, CheckpointError.__name__, f"{type(error).__name__}: {error}")

    def as_error(self) -> Exception:
        found: Exception = getattr(errors, self.kind)(f"rank {self.rank}: {self.text}")
        return found


class Ranks:
    """The processes of *group*, which must speak from CPU to CPU; this one alone without a group.

    Each method is called by all of them. An error on one of them is raised on all of them, as the same class; a
    process that is gone is a `StorageError` on those that notice, at the latest after the group's timeout.
    """

    def __init__(self, group: ProcessGroup | None) -> None:
        self.group = group
        self.rank = 0 if group is None else dist.get_rank(group)
        self.count = 1 if group is None else dist.get_world_size(group)
        self.lost = False
        """Whether another process did not answer: there is no use in calling it again."""

    def first(self, work: Callable[[], T]) -> T:
        """Let rank 0 do *work*, and return what it returned."""
        if self.group is None:
            return work()
        done, error = self._try(work) if self.rank == 0 else (None, None)
        box: list[Any] = [done]
        with self._reached():
            dist.broadcast_object_list(box, src=dist.get_global_rank(self.group, 0), group=self.group)
        result: T = self._settle(box, error)[0]
        return result

    def seldom(self, work: Callable[[], T | None]) -> T | None:
        """Let rank 0 do *work*, and return what it returned: None mostly, and then one number is all that travels."""
        if self.group is None:
            return work()
        done, error = self._try(work) if self.rank == 0 else (None, None)
        flag = torch.tensor(done is not None)
        with self._reached():
            dist.broadcast(flag, src=dist.get_global_rank(self.group, 0), group=self.group)
        if not flag:
            return None

        def tell() -> T | None:
            if error is not None:
                raise error
            return cast("T | None", done)

        return self.first(tell)

    def all(self, work: Callable[[], T]) -> list[T]:
        """Let every rank do *work*, and return what each returned, in their order."""
        if self.group is None:
            return [work()]
        done, error = self._try(work)
        box: list[Any] = [None] * self.count
        with self._reached():
            dist.all_gather_object(box, done, group=self.group)
        return self._settle(box, error)

    def each(self, work: Callable[[], T]) -> T:
        """Let every rank do *work*, and return what this one's returned; nothing but errors travels."""
        kept: list[T] = []
        self.all(lambda: kept.append(work()))
        return kept[0]

    def agree(self, work: Callable[[], T], conclude: Callable[[list[T]], R]) -> R:
        """Let every rank do *work*, rank 0 *conclude* from what each returned, and return that."""
        if self.group is None:
            return conclude([work()])
        done, error = self._try(work)
        box: list[Any] | None = [None] * self.count if self.rank == 0 else None
        with self._reached():
            dist.gather_object(done, box, dst=dist.get_global_rank(self.group, 0), group=self.group)
        return self.first(lambda: conclude(self._settle(box or [], error)))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Turn what `torch.distributed.checkpoint` raises inside the block, the same on all ranks, into our errors."""
        try:
            with self._reached(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process alone is what is meant
                yield
        except CheckpointException as error:
            found = {rank: failure for rank, (failure, _) in error.failures.items()}
            own = found.get(self.rank)
            if own is not None and (self.count == 1 or not isinstance(own, Exception)):
                raise own from None
            raise self._first_of([_Failure.of(one, rank) for rank, one in found.items()]) from own

    def _try(self, work: Callable[[], T]) -> tuple[T | _Failure, BaseException | None]:
        try:
            return work(), None
        except BaseException as error:  # the others wait for an answer, whatever it is
            return _Failure.of(error, self.rank), error

    def _settle(self, outcomes: list[Any], own: BaseException | None) -> list[Any]:
        failures = [one for one in outcomes if isinstance(one, _Failure)]
        if own is not None and not isinstance(own, Exception):
            raise own
        if failures:
            raise self._first_of(failures) from own
        return outcomes

    def _first_of(self, failures: list[_Failure]) -> Exception:
        return min(failures, key=lambda one: one.rank).as_error()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self.lost = True
            msg = (
                f"rank {self.rank} lost the others ({error}); what was committed before is untouched, "
                "and training must be started again"
            )
            raise StorageError(msg) from error


def ranks_of(group: ProcessGroup | None = None) -> Ranks:
    """Return the ranks of *group*, or of the default one; this process alone where there is none.

    A group that cannot speak from CPU to CPU, as one of NCCL alone, gets one of gloo beside it, over the same ranks.

    Raises:
        ConfigurationError: If this process is not in *group*.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return Ranks(None)
    found = dist.group.WORLD if group is None else group
    if found is None or dist.get_rank(found) < 0:
        msg = "this process is not in the process group; let only those that are in it make the manager"
        raise ConfigurationError(msg)
    if "cpu:" not in dist.get_backend_config(found):
        members = dist.get_process_group_ranks(found)
        found = dist.new_group(members, backend="gloo", use_local_synchronization=True)
    return Ranks(found)
