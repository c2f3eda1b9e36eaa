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
    from mlc_trainer.training_manager import TrainingManager

__all__ = [
    "ConfigError",
    "Engine",
    "ExperimentConfig",
    "ExperimentManager",
    "FactoryError",
    "HorizonError",
    "ModelManager",
    "Monitor",
    "NonFiniteLossError",
    "NonFiniteStepError",
    "Observer",
    "Position",
    "PreemptedError",
    "Proof",
    "ProofError",
    "ResumeWarning",
    "RunBusyError",
    "RunError",
    "RunRecord",
    "TrainingManager",
    "as_data",
    "callbacks",
    "create_training_manager",
    "from_data",
    "prove",
    "quick_training_setup",
    "read_config",
    "read_journal",
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
            "ConfigError FactoryError HorizonError NonFiniteLossError NonFiniteStepError PreemptedError "
            "ProofError ResumeWarning RunBusyError RunError"
        ),
        "experiment": "ExperimentManager",
        "models": "ModelManager",
        "observers": "Monitor Observer RunRecord read_journal",
        "proving": "Proof prove",
        "presets": "create_training_manager quick_training_setup",
        "training_manager": "TrainingManager",
    },
)
