"""What holds for every retention policy, as tests to inherit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_core.protocols import RetentionPolicy
from mlc_core.retention import decide
from mlc_core.testing.strategies import saved_checkpoints

if TYPE_CHECKING:
    from random import Random

    from mlc_core.records import Saved

__all__ = ["RetentionContract"]


class RetentionContract:
    """What holds for every retention policy. Subclass it and give the fixture `policy`."""

    @pytest.fixture
    def policy(self) -> RetentionPolicy:
        """Return the policy; override this."""
        msg = "give the fixture policy"
        raise NotImplementedError(msg)

    def test_is_a_policy(self, policy: RetentionPolicy) -> None:
        """It has the method that is asked."""
        assert isinstance(policy, RetentionPolicy)

    def test_keeps_nothing_of_nothing(self, policy: RetentionPolicy) -> None:
        """An empty directory is no special case."""
        assert {} == dict(policy.keep(()))

    def test_keeps_what_is_there_and_says_why(self, policy: RetentionPolicy) -> None:
        """Every id is one of those it was shown, every reason is a few words on one line."""

        @given(saved_checkpoints())
        def check(saved: tuple[Saved, ...]) -> None:
            kept = policy.keep(saved)

            assert set(kept) <= {one.id for one in saved}
            assert [] == [reason for reason in kept.values() if not reason.strip() or "\n" in reason]

        check()

    def test_is_pure(self, policy: RetentionPolicy) -> None:
        """The same checkpoints give the same answer, whatever it was asked in between."""

        @given(saved_checkpoints(), saved_checkpoints())
        def check(saved: tuple[Saved, ...], others: tuple[Saved, ...]) -> None:
            first = dict(policy.keep(saved))
            policy.keep(others)

            assert first == dict(policy.keep(saved))

        check()

    def test_order_of_a_listing_is_irrelevant(self, policy: RetentionPolicy) -> None:
        """Checkpoints are ordered by their commits, however a storage lists them."""

        @given(saved_checkpoints(), st.randoms(use_true_random=False))
        def check(saved: tuple[Saved, ...], random: Random) -> None:
            shuffled = list(saved)
            random.shuffle(shuffled)

            assert decide(policy, saved) == decide(policy, shuffled)

        check()

    def test_clock_on_the_wall_is_irrelevant(self, policy: RetentionPolicy) -> None:
        """When a checkpoint was made, by a clock that may jump, is told to people only."""

        @given(saved_checkpoints())
        def check(saved: tuple[Saved, ...]) -> None:
            elsewhen = tuple(attrs.evolve(one, created_at="1970-01-01T00:00:00.000+00:00") for one in saved)

            assert dict(policy.keep(saved)) == dict(policy.keep(elsewhen))

        check()

    def test_pinned_ones_stay(self, policy: RetentionPolicy) -> None:
        """A pin keeps what it names, says so, and takes nothing from the others."""

        @given(saved_checkpoints(), st.data())
        def check(saved: tuple[Saved, ...], data: st.DataObject) -> None:
            ids = [one.id for one in saved]
            pinned = set(data.draw(st.lists(st.sampled_from(ids)), label="pinned")) if ids else set()
            decisions = decide(policy, saved, pinned=pinned)

            assert pinned == {one.saved.id for one in decisions if one.reason.startswith("pinned")}
            assert pinned | set(policy.keep(saved)) <= {one.saved.id for one in decisions if one.keep}

        check()

    def test_pruning_twice_is_pruning_once(self, policy: RetentionPolicy) -> None:
        """What was kept is kept again while nothing else is saved."""

        @given(saved_checkpoints())
        def check(saved: tuple[Saved, ...]) -> None:
            kept = tuple(one.saved for one in decide(policy, saved) if one.keep)

            assert kept == tuple(one.saved for one in decide(policy, kept) if one.keep)

        check()

    def test_a_run_is_never_left_with_none(self, policy: RetentionPolicy) -> None:
        """At least one checkpoint stays, and each gets a decision with a reason."""

        @given(saved_checkpoints(min_size=1))
        def check(saved: tuple[Saved, ...]) -> None:
            decisions = decide(policy, saved)

            assert saved == tuple(one.saved for one in decisions)
            assert any(one.keep for one in decisions)
            assert all(one.reason for one in decisions)

        check()
