"""What every check of a promotion does, and promotions to try one with."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from mlc_registry.records import Approval, ModelVersion, Promotion, Tracking
from mlc_registry.semver.versions import Version
from mlc_registry.testing.strategies import versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlc_registry.protocols import PromotionCheck
    from mlc_registry.records import Json

__all__ = ["PromotionCheckContract", "make_promotion"]

LONG_AGO = datetime(2026, 1, 1, tzinfo=timezone.utc)
NOWHERE = Path("nowhere/model.bin")


class PromotionCheckContract:
    """What holds for every `PromotionCheck`. Subclass it and give the fixtures `check`, `fine` and `bad`."""

    @pytest.fixture
    def check(self) -> PromotionCheck:
        """Return the check; override this."""
        msg = "give the fixture check"
        raise NotImplementedError(msg)

    @pytest.fixture
    def fine(self) -> Promotion:
        """Return a promotion to which the check does not object; override this."""
        msg = "give the fixture fine"
        raise NotImplementedError(msg)

    @pytest.fixture
    def bad(self) -> Promotion:
        """Return a promotion to which the check objects; override this."""
        msg = "give the fixture bad"
        raise NotImplementedError(msg)

    def test_what_is_fine_passes(self, check: PromotionCheck, fine: Promotion) -> None:
        """Without a word."""
        assert "" == check.object_to(fine)

    def test_what_is_bad_is_told(self, check: PromotionCheck, bad: Promotion) -> None:
        """In words that fit into a sentence."""
        said = check.object_to(bad)

        assert said
        assert said == said.strip()

    def test_the_answer_does_not_depend_on_what_was_asked_before(
        self, check: PromotionCheck, fine: Promotion, bad: Promotion
    ) -> None:
        """A check keeps nothing in mind."""
        before = check.object_to(bad)

        assert ["", before, ""] == [check.object_to(one) for one in (fine, bad, fine)]

    def test_files_stay_as_they_are(self, check: PromotionCheck, fine: Promotion, tmp_path: Path) -> None:
        """A check looks and changes nothing."""
        before = _look(tmp_path)
        check.object_to(fine)

        assert before == _look(tmp_path)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors])
    @given(version=versions(), current=versions())
    def test_a_version_of_which_nothing_is_known_is_judged(
        self, check: PromotionCheck, version: Version, current: Version
    ) -> None:
        """Without metrics, notes, approvals; with or without a version at the stage."""
        for there in (None, make_promotion(str(current)).version):
            assert isinstance(check.object_to(make_promotion(str(version), current=there)), str)


def make_promotion(
    version: str = "1.0.0",
    *,
    stage: str = "production",
    current: ModelVersion | None = None,
    metadata: Mapping[str, Json] | None = None,
    tracking: Tracking | None = None,
    description: str = "",
    notes: str = "",
    publisher: str = "ann",
    approved_by: Sequence[str] = (),
    path: Path = NOWHERE,
    verify: Callable[[], None] = lambda: None,
) -> Promotion:
    """Return a promotion of a model `net`, to try a check with."""
    published = ModelVersion(
        model="net",
        version=Version.parse(version),
        digest="sha256:aa",
        size=3,
        directory=f"net/{version}",
        entry="",
        metadata={} if metadata is None else metadata,
        description=description,
        created_at=LONG_AGO,
        created_by=publisher,
        tracking=Tracking() if tracking is None else tracking,
    )
    approvals = tuple(Approval(stage=stage, actor=one, reason="", at=LONG_AGO) for one in approved_by)
    return Promotion(
        version=published,
        stage=stage,
        current=current,
        actor="bob",
        reason="",
        approvals=approvals,
        notes=notes,
        path=path,
        verify=verify,
    )


def _look(place: Path) -> dict[str, bytes]:
    return {str(one): one.read_bytes() for one in sorted(place.rglob("*")) if one.is_file()}
