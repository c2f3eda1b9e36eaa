"""What a run saves and gets back: every part that has a state, by name, none more and none less."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from mlc_core import (
    CheckpointManager,
    CheckpointNotFoundError,
    CheckpointReader,
    CheckpointWarning,
    CorruptCheckpointError,
    MismatchError,
    open_checkpoint,
)
from mlc_core.restore import Restored, restore
from mlc_trainer import environment
from mlc_trainer.config_files import as_data, settings_that_matter
from mlc_trainer.errors import ResumeWarning
from mlc_trainer.kept_settings import keep_settings
from mlc_trainer.measure import take_up
from mlc_trainer.provenance import Provenance, factories_of
from mlc_trainer.resume_report import ResumeReport, report_resume
from mlc_trainer.under_way import SaveUnderWay, settle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core import Saved
    from mlc_core.distributed import DistributedCheckpointManager
    from mlc_trainer.config import ExperimentConfig
    from mlc_trainer.engine import Engine, Position

__all__ = ["LATEST_STATE", "RunCheckpoints", "check_parts", "warn_of_differences"]

LATEST_STATE = "latest state"
"""Why the end of an epoch is saved when the strategy has no reason to."""
OURS = ("engine", "environment", "experiment", "loss")  # what every run saves beside model and optimizer


@attrs.define
class RunCheckpoints:
    """The checkpoints of a run, and which of them holds the state in memory."""

    manager: CheckpointManager | DistributedCheckpointManager
    engine: Engine
    config: ExperimentConfig
    samples: int
    """How many are trained on; with another number, the order is another."""
    more_parts: Mapping[str, Any] = attrs.field(factory=dict)
    """What has a state beside the engine."""
    at: str | None = None
    """The checkpoint here that holds what is in memory, if there is one."""
    source: Path | str | None = None
    """The checkpoint that was saved or restored last, wherever it lies."""
    saved: Position | None = None
    """Where training stood when that was saved or restored."""
    metrics: dict[str, float] = attrs.field(factory=dict)
    """What was saved with it."""
    loaded: Saved | None = None
    """The record of what was restored last."""
    under_way: SaveUnderWay | None = None
    """What is being saved in the background."""
    untold: list[tuple[Position, str]] = attrs.field(factory=list)
    """What was saved in the background, and nobody was told of yet."""
    provenance: Provenance = attrs.field(init=False)
    """Where the run comes from."""

    @provenance.default
    def _look_around(self) -> Provenance:
        return Provenance(factories_of(self.config))

    @property
    def parts(self) -> dict[str, Any]:
        """Whatever has a state beside model, optimizer and learning rate."""
        return {**self.engine.parts, **self.more_parts}

    def save(self, reason: str, *, metrics: Mapping[str, float] | None = None, later: bool = False) -> str | None:
        """Save where training stands, with the *metrics* of an epoch at its end, and return the checkpoint's location.

        With *later* it is written in the background, and None is returned. What was begun before comes first.

        Raises:
            DiskFullError, StorageError: If it cannot be written, or what was begun before could not be.
        """
        settle(self)
        engine, position, ended = self.engine, self.engine.position, metrics is not None
        engine.world.share_buffers(engine.modules)
        write: Any = self.manager.save_checkpoint
        if later:
            assert isinstance(self.manager, CheckpointManager)  # several processes were refused it
            write = self.manager.async_save_checkpoint
        begun = write(
            engine.model,
            engine.optimizer,
            self._scheduler,
            position.epoch + (0 if ended else 1),
            {} if metrics is None else dict(metrics),
            step=position.step,
            epoch_ended=ended,
            reason=reason,
            items={**self.parts, "experiment": as_data(self.config), "environment": self.environment()},
        )
        self.saved, self.metrics = position, dict(metrics or {})
        if later:
            self.at, self.under_way = None, SaveUnderWay(begun, position)
            return None
        self.source = self.at = Path(str(begun)).name
        return str(begun)

    def save_here(self, reason: str) -> str | None:
        """Save in the middle of an epoch, unless that is saved already, and return the location if it was not.

        Between two epochs nothing is saved: that is done with the metrics, or it was not to be. What is being saved in
        the background is waited for.

        Raises:
            DiskFullError, StorageError: As `save`.
        """
        settle(self)
        position = self.engine.position
        is_here = position == self.saved and self.at is not None
        return None if not position.batch or is_here else self.save(reason)

    def go_back(self) -> None:
        """Load what was saved or restored last."""
        settle(self)
        assert self.source is not None
        self.restore(self.source)

    def restore(self, checkpoint: Path | str) -> ResumeReport:
        """Load *checkpoint* whole, and return what came of it.

        Raises:
            CheckpointNotFoundError: If there is none, or it was not saved by a run.
            CorruptCheckpointError: If it was changed.
            MismatchError: If it does not fit. Nothing was changed, unless there are several processes and what does not
                fit is a setting that the checkpoint's state cannot put back.
        """
        engine, is_path = self.engine, "/" in str(checkpoint)
        found = self._load(checkpoint) if engine.world.size == 1 else self._load_together(checkpoint)
        said, self.config = self.config, keep_settings(self.config, found.state, where=found.saved.name)
        take_up(engine.optimizer)
        self.source = checkpoint if is_path else found.saved.name
        is_here = found.saved.id in {one.id for one in self.manager.list_checkpoints()}
        self.at = found.saved.name if is_here else None
        self.saved, self.metrics, self.loaded = engine.position, dict(found.saved.metrics), found.saved
        return report_resume(
            found.saved,
            found.state,
            position=engine.position,
            before={**settings_that_matter(found.state["experiment"]), **found.state["environment"]},
            now={**settings_that_matter(as_data(said)), **self.environment()},
            passed_over=found.passed_over,
        )

    def _load(self, checkpoint: Path | str) -> Restored:
        found = self.manager.load_checkpoint(checkpoint)
        is_path = "/" in str(checkpoint)
        reader = open_checkpoint(checkpoint) if is_path else CheckpointReader(self.manager.storage, found.saved)
        check_parts(found.state, self.parts, where=reader.location)
        keep_settings(self.config, found.state, where=reader.location)
        restore(reader, found.state, strict=True, items=self.parts, **self._trained)
        return found

    def _load_together(self, checkpoint: Path | str) -> Restored:
        """Load *checkpoint* in all processes, each what it holds of the state."""
        location, is_sharded, skipped = self.engine.world.first(lambda: self._look_for(checkpoint))
        if is_sharded:
            wanted = location if skipped else checkpoint
            found = self.manager.load_checkpoint(wanted, strict=True, items=self.parts, **self._trained)
        elif self.config.training.parallel == "fsdp":
            msg = (
                f"{location} was saved by one process and is not sharded: resume it in one process, or in several with "
                "training.parallel = 'ddp'"
            )
            raise MismatchError(msg)
        else:
            found = self.engine.world.each(lambda: self._load_whole(location))
        return attrs.evolve(found, passed_over=(*skipped, *found.passed_over))

    def _look_for(self, checkpoint: Path | str) -> tuple[str, bool, tuple[str, ...]]:
        """Return where *checkpoint* lies, whether it is sharded, and what was passed over to get there."""
        manager, wanted = self.manager, str(checkpoint)
        names = [wanted]
        if wanted == "latest":
            names = [one.name for one in reversed(manager.list_checkpoints())] or names
        skipped: list[str] = []
        for name in names:
            reader = open_checkpoint(name if "/" in name else manager.storage.location(name))
            try:
                if not reader.is_sharded:  # else all verify it together, and pass it over if need be
                    reader.verify()
            except CorruptCheckpointError as error:
                if wanted != "latest":
                    raise
                skipped.append(str(error))
                continue
            check_parts(dict.fromkeys(reader.saved.items), self.parts, where=reader.location)
            if skipped:
                msg = f"loading {reader.location}, and not what cannot be used: {'; '.join(skipped)}"
                warnings.warn(msg, CheckpointWarning, stacklevel=2)
            return str(reader.location), reader.is_sharded, tuple(skipped)
        raise CorruptCheckpointError("; ".join(skipped))

    def _load_whole(self, location: str) -> Restored:
        reader = open_checkpoint(location)
        state = reader.load()
        fit = restore(reader, state, strict=True, items=self.parts, **self._trained)
        return Restored(saved=reader.saved, state=state, fit=fit)

    @property
    def _trained(self) -> dict[str, Any]:
        return {"model": self.engine.model, "optimizer": self.engine.optimizer, "scheduler": self._scheduler}

    @property
    def _scheduler(self) -> Any:
        return None if self.engine.rate is None else self.engine.rate.scheduler

    def environment(self) -> dict[str, Any]:
        """Return what else the bits depend on, and where the run comes from."""
        found = environment.fingerprint(self.engine.device, self.engine.model)
        facts = {"training samples": self.samples, "processes": self.engine.world.size}
        return {**found, **facts, **self.provenance.facts}


def check_parts(
    state: Mapping[str, Any], parts: Mapping[str, Any], *, where: object, ours: Sequence[str] = OURS
) -> None:
    """Make sure that *state* has the parts of a run, none more and none less.

    Raises:
        CheckpointNotFoundError: If it was not saved by a run.
        MismatchError: If it has other parts.
    """
    missing = [name for name in ours if name not in state]
    if missing:
        msg = f"{where} holds no {', '.join(missing)}: it was not saved by a run, which alone can be resumed"
        raise CheckpointNotFoundError(msg)
    known = {"model", "optimizer", "scheduler", *ours}
    for title, names in (("holds no", set(parts) - set(state)), ("also holds", set(state) - known - set(parts))):
        if names:
            msg = f"{where} {title} {', '.join(sorted(names))}: the run that saved it was configured otherwise"
            raise MismatchError(msg)


def warn_of_differences(report: ResumeReport, *, depth: int) -> None:
    """Warn, as of the caller *depth* calls up, where a resume need not lead to the same bits."""
    kept = [str(one) for one in report.differences if one.kept]
    if kept:
        warnings.warn(f"going on from {report.checkpoint}: {'; '.join(kept)}", ResumeWarning, stacklevel=depth + 1)
    changed = [str(one) for one in report.differences if one.matters]
    if changed:
        what = f"going on from {report.checkpoint}, and the rest need not be equal to the bit"
        warnings.warn(f"{what}: {'; '.join(changed)}", ResumeWarning, stacklevel=depth + 1)
