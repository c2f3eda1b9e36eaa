"""The checkpoints of a loop that its user owns, in one process or in several: opened, saved, gone on from."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core import CheckpointManager, ConfigurationError, MismatchError, create_checkpoint_manager, open_checkpoint
from mlc_core.restore import Restored, restore
from mlc_trainer.distributed.wrapping import is_sharded
from mlc_trainer.measure import take_up
from mlc_trainer.resume_report import report_resume
from mlc_trainer.saving import check_parts
from mlc_trainer.under_way import SaveUnderWay, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mlc_core.distributed import DistributedCheckpointManager
    from mlc_trainer.distributed import World
    from mlc_trainer.engine import Engine, Position
    from mlc_trainer.resume_report import ResumeReport

__all__ = ["OwnedCheckpoints", "open_checkpoints"]

OURS = ("engine", "loss", "environment", "manager")  # what every such loop saves beside model and optimizer


def open_checkpoints(
    directory: Path, model_name: str, config: Mapping[str, Any], world: World
) -> CheckpointManager | DistributedCheckpointManager:
    """Return the manager that *config* describes, in several processes one that saves with all of them.

    Raises:
        ConfigurationError: If *config* cannot be followed, or not by several processes.
    """
    if world.size == 1:
        return create_checkpoint_manager(directory, model_name, config)
    from mlc_core.distributed import DistributedCheckpointManager

    options = dict(config)
    kind = options.pop("manager_type", "standard")
    if kind != "standard":
        msg = (
            f"manager_type={kind!r} is for one process, and {world.size} train; name its strategy, as "
            "save_strategy='adaptive', with monitor_metric and mode"
        )
        raise ConfigurationError(msg)
    takes = set(inspect.signature(DistributedCheckpointManager).parameters)
    takes -= {"checkpoint_dir", "model_name", "process_group"}
    unknown = sorted(set(options) - takes)
    if unknown:
        msg = f"{', '.join(unknown)}: no such option where {world.size} processes save, which take {sorted(takes)}"
        raise ConfigurationError(msg)
    return DistributedCheckpointManager(directory, model_name, **options, process_group=world.group)


@attrs.define
class OwnedCheckpoints:
    """The checkpoints of a loop that its user owns, and what is under way to be one."""

    manager: CheckpointManager | DistributedCheckpointManager
    engine: Engine
    environment: Callable[[], Mapping[str, Any]]
    """Returns what else the bits depend on."""
    later: bool = False
    """Whether to save in the background."""
    scheduler: Any = None
    """Of the learning rate, if the user has one."""
    at: str | None = None
    source: Path | str | None = None
    saved: Position | None = None
    """Where training stood when it was saved or restored last."""
    under_way: SaveUnderWay | None = None
    untold: list[tuple[Position, str]] = attrs.field(factory=list)

    def save(
        self,
        epoch: int,
        metrics: Mapping[str, float],
        *,
        epoch_ended: bool,
        state: Mapping[str, Any],
        reason: str | None = None,
    ) -> Path | str | None:
        """Save if the strategy says so, or for *reason*, with the *state* of the manager, and return where.

        None is returned if it says no, and if it is written in the background; with a *reason* it is waited for.

        Raises:
            DiskFullError, StorageError, …: If it cannot be written, or what was begun before could not be.
        """
        settle(self)
        engine = self.engine
        engine.world.share_buffers(engine.modules)
        write: Any = self.manager.save_checkpoint
        later = self.later and reason is None
        if later:
            assert isinstance(self.manager, CheckpointManager)  # several processes were refused it
            write = self.manager.async_save_checkpoint
        begun = write(
            engine.model,
            engine.optimizer,
            self.scheduler,
            epoch,
            metrics,
            step=engine.position.step,
            epoch_ended=epoch_ended,
            reason=reason,
            items={**engine.parts, "environment": dict(self.environment()), "manager": dict(state)},
        )
        if begun is None:
            return None
        self.saved = engine.position
        if later:
            self.under_way = SaveUnderWay(begun, engine.position)
            return None
        location: Path | str = begun
        return location

    def find_latest(self) -> str | None:
        """Return where the latest checkpoint lies, if there is one."""
        return self.engine.world.first(lambda: _as_text(self.manager.get_latest_checkpoint_path()))

    def restore(self, latest: str, *, options: Mapping[str, Any]) -> tuple[Mapping[str, Any], ResumeReport]:
        """Load *latest*, and return what the manager knew, and what came of it, held against *options* of now.

        Raises:
            CheckpointNotFoundError, CorruptCheckpointError, MismatchError: If it has other parts, or was changed.
        """
        found = self._load(latest) if self.engine.world.size == 1 else self._load_together(latest)
        take_up(self.engine.optimizer)
        own: Mapping[str, Any] = found.state["manager"]
        before = {**own["options"], **found.state["environment"]}
        now = {**options, **self.environment()}
        self.saved = position = self.engine.position
        return own, report_resume(found.saved, found.state, position=position, before=before, now=now)

    def _load(self, latest: str) -> Restored:
        assert isinstance(self.manager, CheckpointManager)
        found = self.manager.load_checkpoint(latest)
        self._check(found.state, latest)
        targets = (self.engine.model, self.engine.optimizer, self.scheduler)
        self.manager.load_checkpoint(latest, *targets, items=dict(self.engine.parts), strict=True)
        return found

    def _load_together(self, latest: str) -> Restored:
        """Load *latest* in all processes, each what it holds of the state."""
        engine = self.engine
        trained = {"model": engine.model, "optimizer": engine.optimizer, "scheduler": self.scheduler}
        if engine.world.first(partial(self._look_at, latest)):
            return self.manager.load_checkpoint(latest, **trained, items=dict(engine.parts), strict=True)
        if is_sharded(engine.model):
            msg = f"{latest} was saved by one process and is not sharded: go on in one process, or without shards"
            raise MismatchError(msg)

        def load() -> Restored:
            reader = open_checkpoint(latest)
            state = reader.load()
            fit = restore(reader, state, strict=True, items=engine.parts, **trained)
            return Restored(saved=reader.saved, state=state, fit=fit)

        return engine.world.each(load)

    def _look_at(self, latest: str) -> bool:
        """Say whether *latest*, which has the parts that it must have, is sharded."""
        reader = open_checkpoint(latest)
        self._check(dict.fromkeys(reader.saved.items), latest)
        if not reader.is_sharded:  # else all verify it together
            reader.verify()
        return reader.is_sharded

    def _check(self, state: Mapping[str, Any], latest: str) -> None:
        check_parts(state, self.engine.parts, where=latest, ours=OURS)
        if self.scheduler is None and "scheduler" in state:
            msg = f"{latest} holds a scheduler and none is given; hand it to resume(model, optimizer, scheduler)"
            raise MismatchError(msg)


def _as_text(location: Path | str | None) -> str | None:
    return None if location is None else str(location)
