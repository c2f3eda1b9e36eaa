"""A training loop that can be killed anywhere and does not notice."""

from typing import TYPE_CHECKING

from mlc_hooks.lazy import lazy_exports

if TYPE_CHECKING:
    from mlc_trainer.catalogs import callbacks, trackers
    from mlc_trainer.config import ExperimentConfig
    from mlc_trainer.config_files import as_data, from_data, read_config
    from mlc_trainer.engine import Engine, Position
    from mlc_trainer.errors import (
        ConfigError,
        FactoryError,
        HorizonError,
        LoaderStuckError,
        NonFiniteLossError,
        NonFiniteStepError,
        PreemptedError,
        ProofError,
        ResumeWarning,
        RunBusyError,
        RunError,
    )
    from mlc_trainer.experiment import ExperimentManager
    from mlc_trainer.models import ModelManager
    from mlc_trainer.observers import Monitor, Observer, RunRecord, read_journal
    from mlc_trainer.presets import create_training_manager, quick_training_setup
    from mlc_trainer.proving import Proof, prove
    from mlc_trainer.resume_report import Difference, ResumeReport
    from mlc_trainer.runs import Run, find_runs, read_run
    from mlc_trainer.training_manager import TrainingManager

__all__ = [
    "ConfigError",
    "Difference",
    "Engine",
    "ExperimentConfig",
    "ExperimentManager",
    "FactoryError",
    "HorizonError",
    "LoaderStuckError",
    "ModelManager",
    "Monitor",
    "NonFiniteLossError",
    "NonFiniteStepError",
    "Observer",
    "Position",
    "PreemptedError",
    "Proof",
    "ProofError",
    "ResumeReport",
    "ResumeWarning",
    "Run",
    "RunBusyError",
    "RunError",
    "RunRecord",
    "TrainingManager",
    "as_data",
    "callbacks",
    "create_training_manager",
    "find_runs",
    "from_data",
    "prove",
    "quick_training_setup",
    "read_config",
    "read_journal",
    "read_run",
    "trackers",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "catalogs": "callbacks trackers",
        "config": "ExperimentConfig",
        "config_files": "as_data from_data read_config",
        "engine": "Engine Position",
        "errors": (
            "ConfigError FactoryError HorizonError LoaderStuckError NonFiniteLossError NonFiniteStepError "
            "PreemptedError ProofError ResumeWarning RunBusyError RunError"
        ),
        "experiment": "ExperimentManager",
        "models": "ModelManager",
        "observers": "Monitor Observer RunRecord read_journal",
        "proving": "Proof prove",
        "presets": "create_training_manager quick_training_setup",
        "resume_report": "Difference ResumeReport",
        "runs": "Run find_runs read_run",
        "training_manager": "TrainingManager",
    },
)
