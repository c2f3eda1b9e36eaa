"""What mlc-registry offers, through the same door as everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import click

    from mlc_registry.protocols import PromotionCheck, Store


@hookimpl
def mlc_registry_stores() -> Mapping[str, Callable[..., Store]]:
    """Offer SQLite and PostgreSQL."""
    return {"sqlite": open_sqlite, "postgresql": open_postgresql}


@hookimpl
def mlc_promotion_checks() -> Mapping[str, Callable[..., PromotionCheck]]:
    """Offer the checks that most policies need."""
    return {
        "metric_gate": metric_gate,
        "approval": approval,
        "intact": intact,
        "described": described,
        "signed": signed,
    }


@hookimpl
def mlc_commands() -> Mapping[str, Callable[[], click.Command]]:
    """Offer `mlc registry`."""
    return {"registry": registry_command}


def open_sqlite(url: str, *, create: bool) -> Store:
    """Keep the facts in one SQLite file, as in sqlite:///registry.db."""
    from mlc_registry.stores.sqlite import open_url  # SQLAlchemy takes a quarter of a second to load

    return open_url(url, create=create)


def open_postgresql(url: str, *, create: bool) -> Store:
    """Keep the facts in a PostgreSQL database, as in postgresql://user@host/database. Needs `[postgresql]`."""
    from mlc_registry.stores.postgresql import open_url

    return open_url(url, create=create)


def metric_gate(
    *,
    metric: str,
    minimum: float | None = None,
    maximum: float | None = None,
    not_worse: bool = False,
    mode: str = "max",
    tolerance: float = 0.0,
) -> PromotionCheck:
    """Ask for a metric within limits, or no worse than that of the version that the stage points to."""
    from mlc_registry.promotion.checks.metric_gate import MetricGate

    return MetricGate(
        metric=metric, minimum=minimum, maximum=maximum, not_worse=not_worse, mode=mode, tolerance=tolerance
    )


def approval(*, count: int = 1, by: Sequence[str] | None = None, not_publisher: bool = False) -> PromotionCheck:
    """Ask that *count* people have approved the version for the stage."""
    from mlc_registry.promotion.checks.approval import ApprovalCheck

    return ApprovalCheck(count=count, by=by, not_publisher=not_publisher)


def intact() -> PromotionCheck:
    """Hash the files of the version, and ask that they are what was published."""
    from mlc_registry.promotion.checks.intact import Intact

    return Intact()


def described() -> PromotionCheck:
    """Ask for release notes or a description."""
    from mlc_registry.promotion.checks.described import Described

    return Described()


def signed(*, public_key: str) -> PromotionCheck:
    """Ask that the files are signed with a key, of which *public_key* is the public half: in PEM, or a path."""
    from mlc_registry.promotion.checks.signed import Signed

    return Signed(public_key=public_key)


def registry_command() -> click.Command:
    """Publish versions of models, find them, promote them."""
    from mlc_registry.commands import registry

    return registry
