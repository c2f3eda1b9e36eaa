"""A training loop that can be killed anywhere and does not notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlc_trainer.config import ExperimentConfig
    from mlc_trainer.config_files import as_data, from_data, read_config
    from mlc_trainer.engine import Engine, Position
    from mlc_trainer.errors import (
        ConfigError,
        FactoryError,
        HorizonError,
        NonFiniteLossError,
        ResumeWarning,
        RunBusyError,
        RunError,
    )
    from mlc_trainer.experiment import ExperimentManager
    from mlc_trainer.models import ModelManager
    from mlc_trainer.observers import Observer, RunRecord, read_journal

__all__ = [
    "ConfigError",
    "Engine",
    "ExperimentConfig",
    "ExperimentManager",
    "FactoryError",
    "HorizonError",
    "ModelManager",
    "NonFiniteLossError",
    "Observer",
    "Position",
    "ResumeWarning",
    "RunBusyError",
    "RunError",
    "RunRecord",
    "as_data",
    "from_data",
    "read_config",
    "read_journal",
]

ROOMS = {
    "ExperimentConfig": "config",
    "as_data": "config_files",
    "from_data": "config_files",
    "read_config": "config_files",
    "Engine": "engine",
    "Position": "engine",
    "ExperimentManager": "experiment",
    "ModelManager": "models",
    "Observer": "observers",
    "RunRecord": "observers",
    "read_journal": "observers",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: torch takes a second that `mlc --help` need not wait."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{ROOMS.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
