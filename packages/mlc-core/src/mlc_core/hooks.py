"""What mlc-core offers, through the same door as everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import click

    from mlc_core.protocols import RetentionPolicy, SaveStrategy, Serializer, Storage


@hookimpl
def mlc_save_strategies() -> Mapping[str, Callable[..., SaveStrategy]]:
    """Offer the strategies that need nothing but their options."""
    from mlc_core import strategies

    return {
        "adaptive": strategies.Adaptive,
        "all": strategies.All,
        "best": strategies.Best,
        "epoch": strategies.Epoch,
        "interval": strategies.Interval,
        "milestones": strategies.Milestones,
        "on_exception": strategies.OnException,
        "on_signal": strategies.OnSignal,
        "overhead_budget": strategies.OverheadBudget,
        "performance_based": strategies.PerformanceBased,
        "time_based": strategies.TimeBased,
        "wall_clock": strategies.WallClock,
        "young_daly": strategies.YoungDaly,
    }


@hookimpl
def mlc_retention_policies() -> Mapping[str, Callable[..., RetentionPolicy]]:
    """Offer the policies of one rule each; `|` and `&` join them."""
    from mlc_core import retention

    return {
        "all": retention.KeepAll,
        "best": retention.KeepBest,
        "best_and_latest": retention.KeepBestAndLatest,
        "every": retention.KeepEvery,
        "latest": retention.KeepLatest,
        "pareto": retention.KeepPareto,
        "recent": retention.KeepRecent,
        "spaced": retention.KeepSpaced,
        "unrepeated": retention.KeepUnrepeated,
        "within": retention.KeepWithin,
        "within_budget": retention.KeepWithinBudget,
    }


@hookimpl
def mlc_storages() -> Mapping[str, Callable[[str], Storage]]:
    """Offer local directories and the memory of this process."""
    return {"file": open_local, "memory": open_memory}


@hookimpl
def mlc_serializers() -> Mapping[str, Callable[[], Serializer]]:
    """Offer safetensors."""
    from mlc_core.serializers import Safetensors

    return {"safetensors": Safetensors}


@hookimpl
def mlc_commands() -> Mapping[str, Callable[[], click.Command]]:
    """Offer `mlc checkpoints`."""
    return {"checkpoints": checkpoints_command}


def open_local(url: str) -> Storage:
    """Keep checkpoints in a local directory."""
    from mlc_core.storage.local import LocalStorage

    return LocalStorage.from_url(url)


def open_memory(url: str) -> Storage:
    """Keep checkpoints in the memory of this process, for tests and notebooks."""
    from mlc_core.storage.memory import MemoryStorage

    return MemoryStorage.from_url(url)


def checkpoints_command() -> click.Command:
    """List, verify, mend, keep, compare and exchange checkpoints."""
    from mlc_core.commands import checkpoints

    return checkpoints
