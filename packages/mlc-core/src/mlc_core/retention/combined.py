"""Policies joined by `|` and `&`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlc_core.protocols import RetentionPolicy
    from mlc_core.records import Saved

__all__ = ["AllOf", "AnyOf", "Composable"]


class Composable:
    """Gives a policy the operators `|`, keep what either keeps, and `&`, keep what both keep."""

    def __or__(self, other: RetentionPolicy) -> AnyOf:
        return AnyOf((cast("RetentionPolicy", self), other))

    def __and__(self, other: RetentionPolicy) -> AllOf:
        return AllOf((cast("RetentionPolicy", self), other))


@attrs.frozen
class AnyOf(Composable):
    """Keep what any of *policies* keeps."""

    policies: tuple[RetentionPolicy, ...]

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Give all the reasons for each."""
        return _join([policy.keep(saved) for policy in self.policies], saved, every=False)


@attrs.frozen
class AllOf(Composable):
    """Keep what all of *policies* keep."""

    policies: tuple[RetentionPolicy, ...]

    def keep(self, saved: Sequence[Saved]) -> Mapping[str, str]:
        """Give all the reasons for each."""
        return _join([policy.keep(saved) for policy in self.policies], saved, every=True)


def _join(answers: Sequence[Mapping[str, str]], saved: Sequence[Saved], *, every: bool) -> Mapping[str, str]:
    ids = [set(answer) for answer in answers]
    joined = (set.intersection if every else set.union)(*ids) if ids else set()
    kept = {}
    for key in [one.id for one in saved if one.id in joined]:
        reasons = "; ".join(answer[key] for answer in answers if key in answer)
        kept[key] = "; ".join(dict.fromkeys(reasons.split("; ")))  # each once, also from inner ones
    return kept
