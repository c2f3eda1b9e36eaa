"""The processes that train one model together: what one of them decides or hears, all of them do."""

from __future__ import annotations

import atexit
import gc
import math
import os
import traceback
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from mlc_trainer.errors import ConfigError, RankError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

__all__ = ["ALONE", "World", "join_world", "leaving", "require_one_process"]

T = TypeVar("T")
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@attrs.frozen
class World:
    """The processes of *group*, which speak from CPU to CPU; this one alone without a group.

    Every method is called by all of them, in the same order.
    """

    rank: int = 0
    size: int = 1
    group: ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes, prints and tells others: rank 0, or the only one."""
        return self.rank == 0

    def first(self, work: Callable[[], T]) -> T:
        """Let rank 0 do *work*, and return what it returned.

        Raises:
            RankError: On the others, if it failed there; on rank 0 the error is what it was.
        """
        if self.group is None:
            return work()
        box: list[Any] = [None, None]
        failure: BaseException | None = None
        if self.is_first:
            try:
                box[0] = work()
            except BaseException as error:  # the others wait for an answer, whatever it is
                failure, box[1] = error, f"{type(error).__name__}: {error}"
        with _reached():
            dist.broadcast_object_list(box, src=dist.get_global_rank(self.group, 0), group=self.group)
        if failure is not None:
            raise failure
        if box[1] is not None:
            msg = f"rank 0 failed, and the others stop with it: {box[1]}"
            raise RankError(msg)
        result: T = box[0]
        return result

    def each(self, work: Callable[[], T]) -> T:
        """Let every process do *work*, and return what this one's returned.

        Raises:
            RankError: On those where it went well, if it failed on another one.
        """
        if self.group is None:
            return work()
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # the others wait for an answer, whatever it is
            failure = error
        told: list[Any] = [None] * self.size
        text = None if failure is None else f"{type(failure).__name__}: {failure}"
        with _reached():
            dist.all_gather_object(told, text, group=self.group)
        if failure is not None:
            raise failure
        for rank, one in enumerate(told):
            if one is not None:
                msg = f"rank {rank} failed, and the others stop with it: {one}"
                raise RankError(msg)
        return cast("T", result)

    @contextmanager
    def hold(self, enter: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
        """Keep what *enter* returns entered on rank 0, while all are in this context.

        Raises:
            RankError: As `first`.
        """
        with ExitStack() as held:

            def enter_here() -> None:
                held.enter_context(enter())

            self.first(enter_here)
            yield

    def highest(self, number: int) -> int:
        """Return the highest *number* of all.

        Raises:
            RankError: Here as in every other method, if a process is gone.
        """
        if self.group is None:
            return number
        box = torch.tensor(number, dtype=torch.int64)
        with _reached():
            dist.all_reduce(box, op=dist.ReduceOp.MAX, group=self.group)
        return int(box)

    def is_alike(self, number: int) -> bool:
        """Say whether *number* is the same in every process.

        Raises:
            RankError: As `highest`.
        """
        if self.group is None:
            return True
        box = torch.tensor([number, -number], dtype=torch.int64)
        with _reached():
            dist.all_reduce(box, op=dist.ReduceOp.MAX, group=self.group)
        return int(box[0]) == -int(box[1])

    def join(self, piece: Tensor, ranges: Sequence[range]) -> Tensor:
        """Return the rows of all processes in one tensor: this one's *piece*, and which rows each of them has.

        The rows go by way of the group, so that processes with fewer of them take part too.
        """
        if self.group is None:
            return piece
        most, shape = max(len(one) for one in ranges), piece.shape[1:]
        sent = torch.zeros(most, math.prod(shape), dtype=piece.dtype)
        sent[: len(piece)] = piece.detach().reshape(len(piece), math.prod(shape))
        boxes = [torch.empty_like(sent) for _ in ranges]
        with _reached():  # as bytes, because gloo does not know every dtype
            dist.all_gather([box.view(torch.uint8) for box in boxes], sent.view(torch.uint8), group=self.group)
        joined = torch.cat([box[: len(one)] for box, one in zip(boxes, ranges, strict=True)])
        return joined.reshape(len(joined), *shape).to(piece.device)

    def share_buffers(self, modules: Iterable[nn.Module]) -> None:
        """Give every process the buffers of rank 0, such as running statistics, which each has gathered for itself."""
        if self.group is None:
            return
        for buffer in (one for module in modules for one in module.buffers()):
            group = self.group if buffer.device.type == "cpu" else None  # the default one speaks from device to device
            with _reached():
                dist.broadcast(buffer.detach(), src=0, group=group)


ALONE = World()


def join_world(device: str = "auto") -> World:
    """Return the processes that `torchrun` started with this one, or those of the default group, or this one alone.

    Each takes the GPU of its own number, unless *device* is not `auto` or `cuda`. They part when `leaving` ends, or at
    the end of the process.

    Raises:
        ConfigError: If the environment names other processes and they cannot be reached.
    """
    if not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        if _count() == 1:
            return ALONE
        _initialize(device)
    if dist.get_world_size() == 1:
        return ALONE
    group = dist.group.WORLD
    if "cpu:" not in dist.get_backend_config(group):
        group = dist.new_group(backend="gloo")
    return World(dist.get_rank(), dist.get_world_size(), group)


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        msg = f"another process of the run does not answer ({error}); start all of them again, and resume"
        raise RankError(msg) from error


def require_one_process(what: str, way_out: str) -> None:
    """Make sure that no other process does the same: each would write over what the others write.

    Args:
        what: That is for one process, as "a TrainingManager".
        way_out: What to do instead.

    Raises:
        ConfigError: If there are others.
    """
    size = dist.get_world_size() if dist.is_available() and dist.is_initialized() else _count()
    if size > 1:
        msg = f"{size} processes run, and {what} is for one; {way_out}"
        raise ConfigError(msg)


def _count() -> int:
    """Return how many processes the environment says there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _initialize(device: str) -> None:
    missing = [name for name in TORCHRUN if name not in os.environ]
    if missing:
        msg = (
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} says that other processes train too, and {', '.join(missing)} does "
            "not say where they are; start them with torchrun, or unset WORLD_SIZE"
        )
        raise ConfigError(msg)
    backend = "gloo"
    if torch.cuda.is_available() and device.partition(":")[0] in {"auto", "cuda"}:
        own, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if own >= count:
            msg = f"process {own} of this machine has no GPU, of which there are {count}; start {count}, or set device"
            raise ConfigError(msg)
        torch.cuda.set_device(own)
        backend = "cpu:gloo,cuda:nccl"
    import_module("torch._dynamo")  # as DistributedDataParallel does; after the group is made, it holds it for ever
    try:
        store, rank, size = next(rendezvous("env://"))
        # torchrun keeps one store over its restarts, and addresses of processes that died would be found in it
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"mlc/{attempt}", store)  # type: ignore[attr-defined]  # public, and not in __all__
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        dist.all_reduce(torch.zeros(()))  # one that fails at once would be gone before the others have found it
    except (RuntimeError, ValueError) as error:
        msg = f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} does not reach the others: {error}"
        raise ConfigError(msg) from error
    atexit.register(_leave)


@contextmanager
def leaving() -> Iterator[None]:
    """Part from the other processes when the context ends: together, unless an error ends it.

    The threads that spoke with them end then, if nothing outside the context holds what trained. One that still lets
    go of a tensor while Python ends would abort the process.
    """
    try:
        yield
        _meet()
    except BaseException as error:
        _forget_locals(error)
        raise
    finally:
        _leave()


def _meet() -> None:
    with suppress(RuntimeError):  # one of them failed at its last word, and says so itself
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(torch.zeros(()))  # on the CPU, which every backend of ours speaks from


def _leave() -> None:
    if not dist.is_available() or not dist.is_initialized():
        return
    gc.collect()  # what trained holds the group, and is full of circles
    with suppress(RuntimeError, AssertionError):  # the others may be gone already
        dist.destroy_process_group()


def _forget_locals(error: BaseException | None) -> None:
    """Empty the frames that *error* and its causes hold: what trained is among their variables."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
