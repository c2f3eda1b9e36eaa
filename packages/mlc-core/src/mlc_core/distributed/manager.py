"""The manager for models that several processes train together: what saves and loads is called by all of them."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import attrs
from torch.distributed.checkpoint.state_dict_saver import save

from mlc_core import events
from mlc_core.catalogs import open_storage
from mlc_core.distributed.desk import Desk
from mlc_core.distributed.differences import OnDifference, make_equal, share_out
from mlc_core.distributed.loading import Targets, load_into, verify_together
from mlc_core.distributed.opened import ShardedCheckpoint
from mlc_core.distributed.planners import ShardedSavePlanner
from mlc_core.distributed.ranks import ranks_of
from mlc_core.distributed.states import model_state_of, optimizer_state_of
from mlc_core.distributed.tensors import has_shards, split
from mlc_core.distributed.writer import ShardedWriter
from mlc_core.errors import CheckpointWarning, ConfigurationError, CorruptCheckpointError, StorageError
from mlc_core.manifest import decode_manifest, encode_manifest
from mlc_core.naming import check_name
from mlc_core.options import choose_monitor, choose_retention, choose_strategy, go_on_monitoring, open_place
from mlc_core.reader import CheckpointReader
from mlc_core.shelf import POINTERS, Shelf
from mlc_core.state import collect
from mlc_hooks import open_door

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch.distributed import ProcessGroup

    from mlc_core.distributed.writer import PlainItems
    from mlc_core.protocols import RetentionPolicy, SaveStrategy
    from mlc_core.records import Mode, Saved
    from mlc_core.restore import Restored

__all__ = ["DistributedCheckpointManager"]


class DistributedCheckpointManager:
    """The checkpoints of one model that several processes train together, as with FSDP2, tensor parallelism or DDP.

    Making one, `save_checkpoint` and `load_checkpoint` are calls that every rank makes; what an error says on one, it
    says on all. Rank 0 asks the strategy, with its own metrics: reduce them first. A checkpoint that was saved on any
    number of ranks can be loaded on any other. When a process dies in the middle of a save, the others get a
    `StorageError`, at the latest after the group's timeout, and what was committed before is untouched.

    Args:
        checkpoint_dir: A directory that all processes see, or a URL; the checkpoints lie in *model_name* below it.
        model_name: One directory per model.
        save_strategy: A name among `save_strategies()` or a strategy. Rank 0 asks its own.
        max_checkpoints: How many to keep: the best, the latest, and the ones before. Default 5.
        monitor_metric: The metric that says which is best. Needed by `best`.
        mode: `max` if more of the metric is better, `min` if less is. Needed with *monitor_metric*.
        retention: A policy instead of *max_checkpoints*.
        save_optimizer: Whether checkpoints hold the optimizer that they are given.
        save_scheduler: The same for the scheduler.
        run: An id of the run, kept in each checkpoint.
        process_group: Who saves together; the default group if there is none. If it cannot speak from CPU to CPU, as
            one of NCCL alone, a group of gloo is made beside it.
        on_difference: What to do where ranks hold different values of what a checkpoint holds once, such as running
            statistics of BatchNorm without synchronisation: `error` names them; `rank0` gives all ranks, and the
            checkpoint, those of rank 0; `mean` their mean. Items differ as they like: each rank gets its own back.

    Raises:
        ConfigurationError: If the options contradict each other.
        UnknownNameError: If no plugin offers the strategy or the URL's scheme.
    """

    def __init__(
        self,
        checkpoint_dir: Path | str,
        model_name: str,
        save_strategy: str | SaveStrategy = "epoch",
        max_checkpoints: int | None = None,
        monitor_metric: str | None = None,
        mode: Mode | None = None,
        *,
        retention: RetentionPolicy | None = None,
        save_optimizer: bool = True,
        save_scheduler: bool = True,
        run: str | None = None,
        process_group: ProcessGroup | None = None,
        on_difference: OnDifference = "error",
    ) -> None:
        self.checkpoint_dir = checkpoint_dir
        self.model_name = check_name(model_name)
        self.strategy = choose_strategy(save_strategy)
        self.monitor = choose_monitor(monitor_metric, mode, self.strategy)
        self.retention = choose_retention(retention, max_checkpoints, self.monitor, self.strategy)
        if on_difference not in get_args(OnDifference):
            msg = f"on_difference={on_difference!r} must be one of {', '.join(map(repr, get_args(OnDifference)))}"
            raise ConfigurationError(msg)
        self.on_difference: OnDifference = on_difference
        self._leaves_out = {"optimizer": not save_optimizer, "scheduler": not save_scheduler}
        self._ranks = ranks_of(process_group)
        open_door("mlc_core")
        self.storage = open_place(checkpoint_dir, self.model_name)
        self.monitor, self.retention = self._ranks.first(
            lambda: go_on_monitoring(self.storage, self.monitor, self.retention)
        )
        self._shelf = self._ranks.each(lambda: Shelf(self.storage, self.monitor))
        self._desk = Desk(self._shelf, self.model_name, self.strategy, self.retention, monitor=self.monitor, run=run)
        self._ranks.first(self._desk.open)

    # ------------------------------------------------------------------ saving

    def due(
        self,
        *,
        epoch: int | None = None,
        step: int | None = None,
        epoch_ended: bool = True,
        metrics: Mapping[str, float] | None = None,
    ) -> str | None:
        """Return why this moment should be saved, or None: what rank 0's strategy answers, on all ranks.

        Takes what `save_checkpoint` takes, and rank 0's word counts. Mostly one number travels.

        Raises:
            ConfigurationError: If an epoch, a step or a metric is none.
            StorageError: If a process is gone.
        """
        return self._ranks.seldom(
            lambda: self._desk.due(epoch=epoch, step=step, epoch_ended=epoch_ended, metrics=metrics)
        )

    def save_checkpoint(
        self,
        model: object = None,
        optimizer: object = None,
        scheduler: object = None,
        epoch: int | None = None,
        metrics: Mapping[str, float] | None = None,
        *,
        step: int | None = None,
        epoch_ended: bool = True,
        items: Mapping[str, object] | None = None,
        reason: str | None = None,
    ) -> Path | str | None:
        """Save, if rank 0's strategy says so, and return where; None if it does not.

        The checkpoint is durable when this returns; only then are others removed.

        Args:
            model: A `torch.nn.Module`, sharded, wrapped or neither.
            optimizer: Saved by the names of *model*'s parameters, unless the manager was told not to.
            scheduler: That of rank 0, which must be as all others are.
            epoch: Which epoch this is. As *metrics*, *step*, *epoch_ended* and *reason*, rank 0's word counts.
            metrics: What was measured at this moment, by name.
            step: How many steps were trained.
            epoch_ended: False in the middle of an epoch.
            items: Whatever else must come back: objects with a `state_dict()`, or plain data, by the same names on all
                ranks. What is the same on all ranks is saved once, what differs by each rank for itself.
            reason: Save without asking the strategy, and say this is why.

        Raises:
            ConfigurationError: If an epoch, a step, a metric or an item's name is none.
            StateError: If something cannot be saved without losing it, or ranks differ and may not.
            DiskFullError, StorageError: If there is no room, the storage fails, or a process is gone. What was saved
                before is untouched.
        """

        def decide() -> bool:
            return self._desk.decide(reason, epoch=epoch, step=step, epoch_ended=epoch_ended, metrics=metrics)

        if not self._ranks.first(decide):
            return None
        state, plain = self._collect(model, optimizer, scheduler, items)
        self._write(state, plain)
        return self.storage.location(self._ranks.first(self._desk.end))

    def _collect(
        self, model: object, optimizer: object, scheduler: object, items: Mapping[str, object] | None
    ) -> tuple[dict[str, Any], PlainItems]:
        """Return the states that are saved in pieces, made equal where they must be, and what else this rank saves."""
        sharded, plain = self._ranks.each(lambda: self._gather(model, optimizer, scheduler, items))
        tensors = self._ranks.each(
            lambda: {
                f"{item}.{name}": tensor
                for item, state in sharded.items()
                for name, tensor in split(item, state).tensors.items()
            }
        )
        make_equal(self._ranks, tensors, self.on_difference)
        states = self._ranks.each(lambda: collect(plain))
        first = self.on_difference == "rank0"
        return sharded, share_out(self._ranks, states, alike=frozenset({"scheduler"}), first_decides=first)

    def _gather(
        self, model: object, optimizer: object, scheduler: object, items: Mapping[str, object] | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        named = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        given = {name: item for name, item in named.items() if item is not None and not self._leaves_out.get(name)}
        twice = sorted(set(named) & set(items or {}))
        if twice:
            msg = f"{', '.join(twice)} among items; give it as the argument of that name"
            raise ConfigurationError(msg)
        collect(dict.fromkeys(items or {}))  # refuses names that cannot name a file
        sharded: dict[str, Any] = {}
        plain: dict[str, Any] = {}
        for name, item in {**given, **(items or {})}.items():
            if name == "model":
                sharded[name] = model_state_of(item)
            elif name == "optimizer":
                sharded[name] = optimizer_state_of(model, item)
            else:
                state = item.state_dict() if hasattr(item, "state_dict") else item
                (sharded if has_shards(state) else plain)[name] = state
        return sharded, plain

    def _write(self, state: dict[str, Any], plain: PlainItems) -> None:
        writer = ShardedWriter(self.storage, self._desk.commit, plain=plain)
        try:
            with self._ranks.together():
                save(
                    state,
                    storage_writer=writer,
                    planner=ShardedSavePlanner(first_decides=self.on_difference == "rank0"),
                    process_group=self._ranks.group,
                    no_dist=self._ranks.group is None,
                )
        finally:
            writer.close()

    # ------------------------------------------------------------------ loading

    def load_checkpoint(
        self,
        checkpoint_path: Path | str | None = None,
        model: Any = None,
        optimizer: Any = None,
        scheduler: Any = None,
        *,
        items: Mapping[str, Any] | None = None,
        strict: bool = True,
        verify: bool = True,
    ) -> Restored:
        """Load a checkpoint into the objects that are given, each rank what it needs.

        Args:
            checkpoint_path: A path, a URL, or a name here (`epoch_3`, `best`, `latest`); rank 0's counts. Without: the
                best, or the latest where nothing is monitored. If the chosen one is corrupt and was not named exactly,
                the newest valid one is loaded instead, with a `CheckpointWarning`.
            model: Gets its parameters and buffers back.
            optimizer: Gets its state back; needs *model*.
            scheduler: The same.
            items: Other objects with a `load_state_dict()`, by the names they were saved under.
            strict: Refuse a model that does not fit exactly; else load what fits and report the rest.
            verify: Hold every file against its digest first; the files are shared out over the ranks.

        Returns:
            The checkpoint's record, the states that were read, and what did not fit. Items in pieces are in the state
            if they were loaded into something. Those that each rank saved for itself are there if there are as many
            ranks as there were; else a `CheckpointWarning` names them.

        Raises:
            CheckpointNotFoundError: If there is none, or it holds nothing for one of the objects.
            CorruptCheckpointError: If it is corrupt, or every candidate is. Nothing was changed.
            StorageError: If it cannot be read, and no candidate can, or a process is gone.
            MismatchError: If it is not sharded, or does not fit.
        """
        wanted = None if checkpoint_path is None else str(checkpoint_path)
        found, causes = self._ranks.first(lambda: self._find(wanted))
        targets = Targets(model=model, optimizer=optimizer, scheduler=scheduler, items=items or {})
        troubles: list[CorruptCheckpointError | StorageError] = []
        for place in found:
            try:
                reader, restored = self._load(*place, targets, strict=strict, verify=verify)
            except (CorruptCheckpointError, StorageError) as error:
                if self._ranks.lost or (wanted is not None and wanted not in POINTERS):
                    raise
                troubles.append(error)
                continue
            if self._ranks.rank == 0 and (causes or troubles):
                passed_over = "; ".join((*causes, *map(str, troubles)))
                msg = f"loading {reader.location}, and not what cannot be used: {passed_over}"
                warnings.warn(msg, CheckpointWarning, stacklevel=2)
            if self._ranks.rank == 0:
                events.checkpoint_restored(reader.saved, reader.storage)
            return attrs.evolve(restored, passed_over=(*causes, *map(str, troubles)))
        msg = "; ".join((*causes, *map(str, troubles)))
        raise (StorageError if isinstance(troubles[0], StorageError) else CorruptCheckpointError)(msg) from troubles[0]

    def _find(self, wanted: str | None) -> tuple[list[tuple[str, bytes]], tuple[str, ...]]:
        readers, causes = self._desk.candidates(wanted)
        return [(one.storage.url, encode_manifest(one.saved)) for one in readers], causes

    def _load(
        self, url: str, manifest: bytes, targets: Targets, *, strict: bool, verify: bool
    ) -> tuple[CheckpointReader, Restored]:
        storage = self.storage if url == self.storage.url else open_storage(url)
        reader = CheckpointReader(storage, decode_manifest(manifest, url))
        opened = self._ranks.each(partial(ShardedCheckpoint.read, reader, verify=verify))
        verify_together(self._ranks, opened)
        return reader, load_into(self._ranks, opened, targets, strict=strict)

    # ------------------------------------------------------------------ keeping

    def pin(self, checkpoint: Path | str) -> None:
        """Let *checkpoint*, a name or a path, stay whatever the policy says, until it is unpinned.

        Raises:
            CheckpointNotFoundError: If there is no such checkpoint here.
        """
        self._ranks.first(lambda: self._desk.keeper.pin(checkpoint))

    def unpin(self, checkpoint: Path | str) -> None:
        """Leave *checkpoint* to the policy again.

        Raises:
            CheckpointNotFoundError: If there is no such checkpoint here.
        """
        self._ranks.first(lambda: self._desk.keeper.unpin(checkpoint))

    def set_pointer(self, pointer: str, checkpoint: Path | str) -> None:
        """Let *pointer*, as `final`, lead to *checkpoint*, until that one is removed.

        Raises:
            ConfigurationError: If *pointer* is `best` or `latest`, which follow the index, or means a pin.
            CheckpointNotFoundError: If there is no such checkpoint here.
        """
        self._ranks.first(lambda: self._desk.keeper.set_pointer(pointer, checkpoint))

    # ------------------------------------------------------------------ looking, which any rank may do alone

    def list_checkpoints(self) -> tuple[Saved, ...]:
        """Return the checkpoints, in order of commit."""
        self._shelf.index.refresh()
        return self._shelf.index.saved

    def get_best_checkpoint_path(self) -> Path | str | None:
        """Return where the best checkpoint lies, or None if none was measured."""
        self._shelf.index.refresh()
        best = self._shelf.best
        return None if best is None else self.storage.location(best.name)

    def get_latest_checkpoint_path(self) -> Path | str | None:
        """Return where the checkpoint committed last lies, or None if there is none."""
        saved = self.list_checkpoints()
        return self.storage.location(saved[-1].name) if saved else None

    def get_checkpoint_summary(self) -> dict[str, Any]:
        """Return counts, bytes, the best and the latest, as plain data."""
        self._shelf.index.refresh()
        return {"model_name": self.model_name, **self._shelf.summary()}
