"""The checkpoints of a loop that its user owns, in one process or in several: opened, saved, gone on from."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core import CheckpointManager, ConfigurationError, MismatchError, create_checkpoint_manager, open_checkpoint
from mlc_core.restore import Restored, restore
from mlc_trainer.distributed.wrapping import is_sharded
from mlc_trainer.errors import RunError
from mlc_trainer.measure import take_up
from mlc_trainer.resume_report import Difference, report_resume
from mlc_trainer.saving import LATEST_STATE, check_parts
from mlc_trainer.under_way import SaveUnderWay, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
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
    stepped: int | None = None
    """How often the scheduler had been stepped then."""
    under_way: SaveUnderWay | None = None
    untold: list[tuple[Position, str]] = attrs.field(factory=list)
    unsaved: Sequence[str] = ()
    """What the checkpoint that was restored did not hold, because it was not to be saved."""

    def save(
        self,
        epoch: int,
        metrics: Mapping[str, float],
        *,
        epoch_ended: bool,
        state: Mapping[str, Any],
        reason: str | None = None,
    ) -> Path | str | None:
        """Save the end of an epoch, else if the strategy says so or for *reason*, and return where.

        None is returned if nobody says so, and if it is written in the background; with a *reason* it is waited for.
        The *state* of the manager is saved with it.

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
        step = engine.position.step
        if epoch_ended and reason is None:  # whatever was best before: what is lost at most is one epoch
            reason = self.manager.due(epoch=epoch, step=step, metrics=metrics) or LATEST_STATE
        begun = write(
            engine.model,
            engine.optimizer,
            self.scheduler,
            epoch,
            metrics,
            step=step,
            epoch_ended=epoch_ended,
            reason=reason,
            items={**engine.parts, "environment": dict(self.environment()), "manager": dict(state)},
        )
        if begun is None:
            return None
        self.saved, self.stepped = engine.position, self._count_steps()
        if later:
            self.under_way = SaveUnderWay(begun, engine.position)
            return None
        location: Path | str = begun
        return location

    def refuse_used(self, journal: Sequence[Mapping[str, Any]]) -> None:
        """Make sure that no training left its checkpoints here, or its *journal*.

        Raises:
            RunError: If one did.
        """
        epochs = sum(line["event"] == "epoch" for line in journal)
        latest = self.find_latest()
        if latest is not None or epochs:
            found = f"the checkpoint {latest}" if latest is not None else f"the journal of {epochs} epochs"
            msg = (
                f"{found} is of an earlier training; resume(model, optimizer, scheduler) before the first step goes on "
                "from there, another model_dir begins anew"
            )
            raise RunError(msg)

    def refuse_stale(self) -> None:
        """Make sure that the scheduler was not stepped since the end of the epoch was saved.

        Raises:
            RunError: If it was: a restart would train on with the rate of before.
        """
        if self.saved == self.engine.position and self._count_steps() != self.stepped:
            msg = (
                f"scheduler.step() came after save_checkpoint at the end of epoch {self.engine.position.epoch - 1}, so "
                "that the checkpoint holds the learning rate of before and a restart would go on with it: step first, "
                "then save"
            )
            raise RunError(msg)

    def _count_steps(self) -> int | None:
        return getattr(self.scheduler, "last_epoch", None)

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
        self.stepped = self._count_steps()
        report = report_resume(found.saved, found.state, position=position, before=before, now=now)
        unsaved = [
            Difference(key=name, before="not saved", now="as it was given", matters=True) for name in self.unsaved
        ]
        return own, attrs.evolve(report, differences=(*report.differences, *unsaved))

    def _load(self, latest: str) -> Restored:
        assert isinstance(self.manager, CheckpointManager)
        found = self.manager.load_checkpoint(latest)
        self._check(found.state, latest)
        trained = self._targets(found.state)
        self.manager.load_checkpoint(latest, **trained, items=dict(self.engine.parts), strict=True)
        return found

    def _load_together(self, latest: str) -> Restored:
        """Load *latest* in all processes, each what it holds of the state."""
        engine = self.engine
        sharded, names = engine.world.first(partial(self._look_at, latest))
        trained = self._targets(names)
        if sharded:
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

    def _targets(self, held: Collection[str]) -> dict[str, Any]:
        """Return what a checkpoint that *held* these items is loaded into; what it was told not to save stays."""
        trained = {"model": self.engine.model, "optimizer": self.engine.optimizer, "scheduler": self.scheduler}
        self.unsaved = tuple(name for name, one in trained.items() if one is not None and name not in held)
        return {name: None if name in self.unsaved else one for name, one in trained.items()}

    def _look_at(self, latest: str) -> tuple[bool, Sequence[str]]:
        """Say whether *latest*, which has the parts that it must have, is sharded, and what it holds."""
        reader = open_checkpoint(latest)
        self._check(dict.fromkeys(reader.saved.items), latest)
        if not reader.is_sharded:  # else all verify it together
            reader.verify()
        return reader.is_sharded, tuple(reader.saved.items)

    def _check(self, state: Mapping[str, Any], latest: str) -> None:
        check_parts(state, self.engine.parts, where=latest, ours=OURS)
        if self.scheduler is None and "scheduler" in state:
            msg = f"{latest} holds a scheduler and none is given; hand it to resume(model, optimizer, scheduler)"
            raise MismatchError(msg)


def _as_text(location: Path | str | None) -> str | None:
    return None if location is None else str(location)
