"""What holds for every save strategy, as tests to inherit."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_core.manifest import decode_manifest, encode_manifest
from mlc_core.protocols import SaveStrategy
from mlc_core.retention.simple import rank
from mlc_core.strategies.memory import recall, remember
from mlc_core.testing.strategies import moments, numbered, runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_core.records import Moment, Saved

__all__ = ["SaveStrategyContract", "play"]


def play(strategy: SaveStrategy, run: Sequence[Moment], saved: list[Saved]) -> list[str | None]:
    """Return what *strategy* answers to each moment of *run*, adding what it has saved to *saved*."""
    answers = []
    for moment in run:
        best = next(iter(rank(saved, moment.monitor)), None) if moment.monitor else None
        answer = strategy.should_save(attrs.evolve(moment, best=best, latest=saved[-1] if saved else None))
        answers.append(answer)
        if answer is not None:
            one = numbered(
                len(saved) + 1,
                epoch=moment.epoch,
                step=moment.step,
                ended=moment.epoch_ended,
                measured=moment.metrics,
                elapsed=moment.elapsed,
            )
            saved.append(attrs.evolve(one, strategy=remember(strategy)))
    return answers


class SaveStrategyContract:
    """What holds for every save strategy. Subclass it and give the fixture `strategy`, one that was never asked.

    The contract asks copies of it. One that looks at the clock must be given a clock that stands still.
    """

    @pytest.fixture
    def strategy(self) -> SaveStrategy:
        """Return the strategy; override this."""
        msg = "give the fixture strategy"
        raise NotImplementedError(msg)

    def test_is_a_strategy(self, strategy: SaveStrategy) -> None:
        """It has the three methods."""
        assert isinstance(strategy, SaveStrategy)

    def test_answers_any_moment(self, strategy: SaveStrategy) -> None:
        """Without a monitor, an epoch, a step or a metric it says no or gives a reason, and never raises."""

        @given(moments())
        def check(moment: Moment) -> None:
            answer = copy.deepcopy(strategy).should_save(moment)

            assert answer is None or answer.strip()
            assert answer is None or "\n" not in answer
            if getattr(strategy, "epoch_ends_only", False):  # then nobody asks it within epochs
                assert answer is None or moment.epoch_ended

        check()

    def test_state_is_plain_data(self, strategy: SaveStrategy) -> None:
        """What it remembers after any run comes back from a manifest as it was."""

        @given(runs())
        def check(run: Sequence[Moment]) -> None:
            asked = copy.deepcopy(strategy)
            play(asked, run, [])
            saved = attrs.evolve(numbered(1, epoch=1, step=1, ended=True, measured={}), strategy=remember(asked))

            assert remember(asked) == dict(decode_manifest(encode_manifest(saved), "here").strategy)

        check()

    def test_goes_on_after_a_restart(self, strategy: SaveStrategy) -> None:
        """A run that stops at any moment and goes on is saved at the moments of one that never stopped."""

        @given(runs(), st.data())
        def check(run: Sequence[Moment], data: st.DataObject) -> None:
            saved: list[Saved] = []
            stop = data.draw(st.integers(0, len(run)), label="moments before the restart")
            stopped, resumed = copy.deepcopy(strategy), copy.deepcopy(strategy)
            before = play(stopped, run[:stop], saved)
            recall(resumed, remember(stopped))
            after = play(resumed, run[stop:], saved)

            assert before + after == play(copy.deepcopy(strategy), run, [])

        check()

    def test_depends_on_nothing_else(self, strategy: SaveStrategy) -> None:
        """Two that are told the same give the same answers, whatever other ones are asked in between."""

        @given(runs(), runs())
        def check(run: Sequence[Moment], other: Sequence[Moment]) -> None:
            first = play(copy.deepcopy(strategy), run, [])
            play(copy.deepcopy(strategy), other, [])

            assert first == play(copy.deepcopy(strategy), run, [])

        check()
