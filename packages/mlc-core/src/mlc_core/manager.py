"""The one object that a training script needs: it decides, saves, keeps and loads."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

from mlc_core import events
from mlc_core.background import choose_background
from mlc_core.catalogs import serializers
from mlc_core.decider import Decider
from mlc_core.errors import CheckpointWarning
from mlc_core.guard import guarded
from mlc_core.keeper import Keeper
from mlc_core.lazy import StepGate, only_steps_change
from mlc_core.naming import check_name
from mlc_core.options import (
    choose_monitor,
    choose_retention,
    choose_strategy,
    gather_items,
    go_on_monitoring,
    open_place,
)
from mlc_core.restore import Restored, restore
from mlc_core.saver import Saver
from mlc_core.shelf import POINTERS, Shelf
from mlc_core.writer import lay_out
from mlc_hooks import open_door

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Self

    from mlc_core.background import Saving, Where
    from mlc_core.protocols import RetentionPolicy, SaveStrategy
    from mlc_core.records import Decision, Mode, Moment, Saved
    from mlc_core.writer import Plan

__all__ = ["CheckpointManager"]


class CheckpointManager:
    """The checkpoints of one model: saved when the strategy says so, committed in one step, kept by policy.

    A strategy with a memory goes on from what it remembered at the latest checkpoint.

    Args:
        checkpoint_dir: A directory or a URL; the checkpoints lie in *model_name* below it.
        model_name: One directory per model.
        save_strategy: A name among `save_strategies()` (`best`, `epoch`, `interval`, `all`, …), a strategy, or a
            function that says of a moment whether to save it.
        max_checkpoints: How many to keep: the best, the latest, and the ones before. Default 5.
        monitor_metric: The metric that says which is best. Needed by `best`. Without: what was monitored here last.
        mode: `max` if more of the metric is better, `min` if less is. Needed with *monitor_metric*.
        retention: A policy instead of *max_checkpoints*, or the name of one among `retention_policies()`.
        save_optimizer: Whether checkpoints hold the optimizer that they are given.
        save_scheduler: The same for the scheduler.
        serializer: A name among `serializers()`.
        run: An id of the run, kept in each checkpoint.
        background: What `async_save_checkpoint` writes with: a `thread`, or a `process` started for it.
        in_flight: How many asynchronous saves may be under way; each needs memory for one state.

    Raises:
        ConfigurationError: If the options contradict each other.
        UnknownNameError: If no plugin offers the strategy, the serializer or the URL's scheme.
    """

    def __init__(
        self,
        checkpoint_dir: Path | str,
        model_name: str,
        save_strategy: str | SaveStrategy | Callable[[Moment], object] = "epoch",
        max_checkpoints: int | None = None,
        monitor_metric: str | None = None,
        mode: Mode | None = None,
        *,
        retention: str | RetentionPolicy | None = None,
        save_optimizer: bool = True,
        save_scheduler: bool = True,
        serializer: str = "safetensors",
        run: str | None = None,
        background: Where = "thread",
        in_flight: int = 1,
    ) -> None:
        self.checkpoint_dir = checkpoint_dir
        self.model_name = check_name(model_name)
        self.strategy = choose_strategy(save_strategy)
        monitor = choose_monitor(monitor_metric, mode, self.strategy)
        policy = choose_retention(retention, max_checkpoints, monitor, self.strategy)
        self._leaves_out = {"optimizer": not save_optimizer, "scheduler": not save_scheduler}
        self._serializer = serializer
        serializers().find(serializer)  # a wrong name is refused now, not after the first epoch
        open_door("mlc_core")
        self.storage = open_place(checkpoint_dir, self.model_name)
        self.storage.sweep()
        self.monitor, policy = go_on_monitoring(self.storage, monitor, policy)
        self._shelf = Shelf(self.storage, self.monitor)
        self._keeper = Keeper(self._shelf, policy, monitor=self.monitor)
        self._saver = Saver(self._shelf, self._keeper, model=self.model_name, run=run)
        self._background = choose_background(self._saver, self.storage, background, in_flight)
        self._gate = StepGate()
        self._decider = Decider(
            self.strategy, model=self.model_name, monitor=self.monitor, shelf=self._shelf, background=self._background
        )
        self._decider.resume()

    # ------------------------------------------------------------------ saving

    def due(
        self,
        *,
        epoch: int | None = None,
        step: int | None = None,
        epoch_ended: bool = True,
        metrics: Mapping[str, float] | None = None,
        exception: str | None = None,
    ) -> str | None:
        """Return why this moment should be saved, or None: the strategy's answer, asked once per moment.

        Takes what `save_checkpoint` takes, and *exception*, the name of what ends the training at this moment. A save
        under way counts as saved.

        Raises:
            MlcError: What a save in the background has met since the last moment.
        """
        return self._decider.due(epoch=epoch, step=step, epoch_ended=epoch_ended, metrics=metrics, exception=exception)

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
        """Save, if the strategy says so, and return where; None if it does not.

        The checkpoint is durable when this returns; only then are others removed. What is saved in the background
        comes first.

        Args:
            model: The model, or anything with a `state_dict()`.
            optimizer: Saved unless the manager was told not to.
            scheduler: The same.
            epoch: Which epoch this is.
            metrics: What was measured at this moment, by name.
            step: How many steps were trained.
            epoch_ended: False in the middle of an epoch.
            items: Whatever else must come back: objects with a `state_dict()`, or plain data, by name.
            reason: Save without asking the strategy, and say this is why.

        Raises:
            ConfigurationError: If an epoch, a step, a metric or an item's name is none.
            StateError: If something cannot be saved without losing it.
            DiskFullError, StorageError: If there is no room or the storage fails. What was saved before is untouched.
        """
        began = time.perf_counter()
        facts = self._decider.decide(reason, epoch=epoch, step=step, epoch_ended=epoch_ended, metrics=metrics)
        if facts is None:
            return None
        try:
            plan = self._lay_out(model, optimizer, scheduler, items)
            self._background.wait()
            saved = self._saver.save(plan, facts)
        except BaseException:
            self._decider.take_back()
            raise
        self._decider.save_seconds = time.perf_counter() - began
        return self.storage.location(saved.name)

    def async_save_checkpoint(
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
        lazy: bool = False,
    ) -> Saving | None:
        """Save in the background, if the strategy says so; None if it does not. Takes what `save_checkpoint` takes.

        Returns once the state was copied, and waits for an earlier save only if *in_flight* of them are under way.
        What goes wrong later is raised at the next moment, by `due` or by the next save, and by `wait`.

        With *lazy* it returns before parameters and optimizer state were copied, and `optimizer.step()` will wait
        until they are. Nothing else may change them until then.

        Raises:
            ConfigurationError: As above, and if *lazy* has no optimizer to wait.
            MlcError: As above, for an earlier save.
        """
        began = time.perf_counter()
        facts = self._decider.decide(reason, epoch=epoch, step=step, epoch_ended=epoch_ended, metrics=metrics)
        if facts is None:
            return None
        if lazy:
            self._gate.watch(optimizer)
        try:
            plan = self._lay_out(model, optimizer, scheduler, items)
            later = only_steps_change(model, optimizer) if lazy else lambda _: False
            saving = self._background.submit(plan, facts, later=later, location=self.storage.location)
        except BaseException:
            self._decider.take_back()
            raise
        if lazy:
            self._gate.close_until_staged(saving)
        self._decider.save_seconds = time.perf_counter() - began
        return saving

    def wait(self) -> None:
        """Wait until everything that was saved in the background is durable.

        Raises:
            MlcError: If one could not be saved.
        """
        self._background.wait()

    def close(self) -> None:
        """Wait, then end what saves in the background and what the strategy holds, as signal handlers.

        Raises:
            MlcError: If one could not be saved.
        """
        getattr(self.strategy, "close", int)()
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except Exception:
            if kind is None:
                raise  # else what ended the block is told; that a save failed was warned of

    def guard(self, state: Callable[[], Mapping[str, Any]]) -> AbstractContextManager[None]:
        """Return a block that saves when an exception ends it, if the strategy says so: `on_exception` does.

        The exception always comes through; a save that fails warns.

        Args:
            state: Returns the arguments for `save_checkpoint` at that moment.
        """
        return guarded(self, state)

    def _lay_out(self, model: object, optimizer: object, scheduler: object, items: Mapping[str, object] | None) -> Plan:
        given = gather_items(model, optimizer, scheduler, items)
        kept = {name: item for name, item in given.items() if not self._leaves_out.get(name)}
        return lay_out(kept, serializer=self._serializer)

    # ------------------------------------------------------------------ keeping

    @property
    def retention(self) -> RetentionPolicy:
        """What is kept."""
        return self._keeper.policy

    def plan(self) -> tuple[Decision, ...]:
        """Return what `prune` would keep and remove now, and why. Changes nothing."""
        return self._keeper.plan()

    def prune(self) -> tuple[Decision, ...]:
        """Remove what the policy does not keep, and return every decision. Runs by itself after each save.

        Raises:
            StorageError: If one could not be removed. The others were.
        """
        return self._keeper.prune()

    def pin(self, checkpoint: Path | str) -> None:
        """Let *checkpoint*, a name or a path, stay whatever the policy says, until it is unpinned.

        Raises:
            CheckpointNotFoundError: If there is no such checkpoint here.
        """
        self._keeper.pin(checkpoint)

    def unpin(self, checkpoint: Path | str) -> None:
        """Leave *checkpoint* to the policy again.

        Raises:
            CheckpointNotFoundError: If there is no such checkpoint here.
        """
        self._keeper.unpin(checkpoint)

    def set_pointer(self, pointer: str, checkpoint: Path | str) -> None:
        """Let *pointer*, as `final`, lead to *checkpoint*, until that one is removed.

        Raises:
            ConfigurationError: If *pointer* is `best` or `latest`, which follow the index, or means a pin.
            CheckpointNotFoundError: If there is no such checkpoint here.
        """
        self._keeper.set_pointer(pointer, checkpoint)

    # ------------------------------------------------------------------ loading

    def load_checkpoint(
        self,
        checkpoint_path: Path | str | None = None,
        model: Any = None,
        optimizer: Any = None,
        scheduler: Any = None,
        *,
        items: Mapping[str, Any] | None = None,
        only: str | Collection[str] | None = None,
        strict: bool = True,
        verify: bool = True,
    ) -> Restored:
        """Load a checkpoint into the objects that are given, after holding each against them.

        Args:
            checkpoint_path: A path, a URL, or a name here (`epoch_3`, `best`, `latest`, `final`). Without: the best,
                or the latest where nothing is monitored. If the chosen one is corrupt and was not named exactly, the
                newest valid one is loaded instead, with a `CheckpointWarning`. So it warns of a damaged manifest: what
                was there might have been chosen.
            model: Gets its parameters and buffers back.
            optimizer: Gets its state back.
            scheduler: The same.
            items: Other objects with a `load_state_dict()`, by the names they were saved under.
            only: Read these items, as `"model"`, and no others.
            strict: Refuse a model that does not fit exactly; else load what fits and report the rest.
            verify: Hold every file against its digest first.

        Returns:
            The checkpoint's record, the state of all its items, and what did not fit.

        Raises:
            CheckpointNotFoundError: If there is none.
            CorruptCheckpointError: If it is corrupt, or every candidate is.
            StorageError: If it cannot be read, and no candidate can.
            MismatchError: If it does not fit. Nothing was changed, unless the message says what was.
        """
        self._background.settle()
        wanted = None if checkpoint_path is None else str(checkpoint_path)
        if wanted is None or wanted in POINTERS:
            reader, state, passed_over = self._shelf.load_first_valid(wanted, only=only, verify=verify)
        else:
            (reader, state), passed_over = self._shelf.load(wanted, only=only, verify=verify), ()
        if passed_over:
            msg = f"loading {reader.location}, and not what cannot be used: {'; '.join(passed_over)}"
            warnings.warn(msg, CheckpointWarning, stacklevel=2)
        fit = restore(reader, state, model=model, optimizer=optimizer, scheduler=scheduler, strict=strict, items=items)
        events.checkpoint_restored(reader.saved, reader.storage)
        return Restored(saved=reader.saved, state=state, fit=fit, passed_over=passed_over)

    # ------------------------------------------------------------------ looking

    def list_checkpoints(self) -> tuple[Saved, ...]:
        """Return the checkpoints, in order of commit."""
        self._shelf.index.refresh()
        return self._shelf.index.saved

    def get_checkpoint_path(self, model_name: str | None = None, epoch: int | None = None) -> Path | str:
        """Return where the checkpoint of *epoch* lies, or the best one; of this model or of another one beside it.

        Raises:
            CheckpointNotFoundError: If there is none.
        """
        shelf = self._shelf
        if model_name is not None and model_name != self.model_name:
            shelf = Shelf(open_place(self.checkpoint_dir, check_name(model_name)), self.monitor)
        shelf.index.refresh()
        found = shelf.best if epoch is None else shelf.index.of_epoch(epoch)
        if found is None:
            what = f"is of epoch {epoch}" if epoch is not None else "has a number for a monitored metric"
            raise shelf.missing(what=what)
        return shelf.storage.location(found.name)

    def get_best_checkpoint_path(self) -> Path | str | None:
        """Return where the best checkpoint lies, or None if none was measured."""
        self._shelf.index.refresh()
        best = self._shelf.best
        return None if best is None else self.storage.location(best.name)

    def get_latest_checkpoint_path(self) -> Path | str | None:
        """Return where the checkpoint committed last lies, or None if there is none."""
        self._shelf.index.refresh()
        return None if self._shelf.index.latest is None else self.storage.location(self._shelf.index.latest.name)

    def get_checkpoint_summary(self) -> dict[str, Any]:
        """Return counts, bytes, the best and the latest, as plain data."""
        self._shelf.index.refresh()
        return {"model_name": self.model_name, **self._shelf.summary()}
