"""What holds for every schedule of weights, as tests to inherit."""

from __future__ import annotations

import copy
import io
import json
import math
import random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mlc_losses.combined import CombinedLoss
from mlc_losses.errors import LossConfigError
from mlc_losses.records import LossMoment
from mlc_losses.scheduler import LossScheduler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mlc_losses.protocols import Loss, LossSchedule

__all__ = ["ScheduleContract"]

NUMBERS = st.one_of(st.floats(0, 4), st.sampled_from([0.0, 1e-30, 1e30]))
NOT_FINITE = (math.nan, math.inf, -math.inf)


class ScheduleContract:
    """What holds for every schedule. Subclass it and give the fixture `schedule`, one that was never started.

    The contract asks copies of it about a loss with the weights `base`, and hands over numbers named `metrics`. One
    that bounds its weights says `low` and `high`.
    """

    base: Mapping[str, float] = {"dice": 0.7, "bce": 0.3}
    metrics: Sequence[str] = ()
    low = 0.0
    high = math.inf

    @pytest.fixture
    def schedule(self) -> LossSchedule:
        """Return the schedule; override this."""
        msg = "give the fixture schedule"
        raise NotImplementedError(msg)

    def runs(self) -> st.SearchStrategy[list[dict[str, float]]]:
        """Draw what is told at each step of a run: a loss for each component, and the metrics."""
        names = [*(f"{name}_loss" for name in self.base), *self.metrics]
        return st.lists(st.fixed_dictionaries(dict.fromkeys(names, NUMBERS)), max_size=8)

    def begin(self, schedule: LossSchedule) -> LossScheduler:
        """Return a scheduler of a copy of *schedule* for a loss of its own."""
        parts: dict[str, Loss] = {name: _Nothing() for name in self.base}
        scheduler = LossScheduler(CombinedLoss(parts, self.base), copy.deepcopy(schedule))
        if schedule.learns:
            scheduler.train_with(torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=0.1))
        return scheduler

    def play(
        self, scheduler: LossScheduler, run: Sequence[Mapping[str, float]], *, first: int = 0
    ) -> list[dict[str, float]]:
        """Return the weights after each step of *run*, whose first epoch is *first*."""
        return [scheduler.step(epoch, told) for epoch, told in enumerate(run, first)]

    def test_weights_are_weights(self, schedule: LossSchedule) -> None:
        """Whatever the run, every component has a finite weight within bounds, and the loss has the same."""

        @given(self.runs())
        def check(run: Sequence[Mapping[str, float]]) -> None:
            scheduler = self.begin(schedule)

            for weights in self.play(scheduler, run):
                assert set(weights) == set(self.base)
                assert all(math.isfinite(one) for one in weights.values())
                assert all(self.low <= one <= self.high for one in weights.values())
            assert scheduler.weights == scheduler.loss.weights

        check()

    def test_sum_is_kept(self, schedule: LossSchedule) -> None:
        """A schedule that says so keeps the sum of the base weights, and with it the scale of the learning rate."""

        @given(self.runs())
        def check(run: Sequence[Mapping[str, float]]) -> None:
            for weights in self.play(self.begin(schedule), run):
                assert math.isclose(sum(weights.values()), sum(self.base.values()), rel_tol=1e-9)

        if schedule.keeps_sum:
            check()

    def test_what_is_not_finite_moves_nothing(self, schedule: LossSchedule) -> None:
        """A step with a loss or a metric that is NaN or infinite leaves weights and memory as they were."""

        @given(self.runs(), st.sampled_from(NOT_FINITE), st.data())
        def check(run: Sequence[Mapping[str, float]], bad: float, data: st.DataObject) -> None:
            scheduler = self.begin(schedule)
            self.play(scheduler, run)
            names = [*(f"{name}_loss" for name in self.base if schedule.needs_losses), *self.metrics]
            told = dict.fromkeys(names, 1.0)
            before = scheduler.state_dict()
            after = [scheduler.step(len(run), {**told, data.draw(st.sampled_from(names)): bad}), scheduler.state_dict()]
            expected = {**before, **{key: before[key] + 1 for key in ("t", "time", "skipped")}}

            assert after == [before["w"], expected]

        if schedule.needs_losses or self.metrics:
            check()

    def test_state_is_plain_data(self, schedule: LossSchedule) -> None:
        """What is remembered after any run survives JSON and a safe `torch.load`, bit for bit."""

        @given(self.runs())
        def check(run: Sequence[Mapping[str, float]]) -> None:
            scheduler = self.begin(schedule)
            self.play(scheduler, run)
            state = scheduler.state_dict()

            assert _through_json(state) == state
            assert _through_torch(state) == state

        check()

    def test_goes_on_after_a_restart(self, schedule: LossSchedule) -> None:
        """A run that stops at any step and goes on has the weights of one that never stopped, bit for bit."""

        @given(self.runs(), st.data())
        def check(run: Sequence[Mapping[str, float]], data: st.DataObject) -> None:
            stop = data.draw(st.integers(0, len(run)), label="steps before the restart")
            travel = data.draw(st.sampled_from([_through_json, _through_torch]))
            whole, stopped, resumed = (self.begin(schedule) for _ in range(3))
            before = self.play(stopped, run[:stop])
            resumed.load_state_dict(travel(stopped.state_dict()))
            after = self.play(resumed, run[stop:], first=stop)

            assert before + after == self.play(whole, run)
            assert resumed.state_dict() == whole.state_dict()

        check()

    def test_state_of_other_components_is_refused(self, schedule: LossSchedule) -> None:
        """A state is not loaded for components of other names, and both sides are named."""
        scheduler = self.begin(schedule)
        state = scheduler.state_dict()
        for part in ("w", "w0"):
            state[part] = {f"other_{name}": one for name, one in state[part].items()}
        name = next(iter(self.base))

        with pytest.raises(LossConfigError, match=f"'other_{name}'.*'{name}'"):
            scheduler.load_state_dict(state)

    def test_state_that_lacks_a_key_changes_nothing(self, schedule: LossSchedule) -> None:
        """A state without any one of its keys is refused, and nothing of the rest is loaded."""
        scheduler = self.begin(schedule)
        before = scheduler.state_dict()
        for key in before:
            state = {name: one for name, one in before.items() if name != key}

            with pytest.raises(LossConfigError):
                scheduler.load_state_dict({name: 7 if name in {"t", "time"} else one for name, one in state.items()})
            assert scheduler.state_dict() == before

    def test_options_are_copies(self, schedule: LossSchedule) -> None:
        """Who writes into the options that it tells changes nothing in it."""
        options = schedule.options()
        expected = copy.deepcopy(dict(options))
        for one in options.values():
            if isinstance(one, dict):
                one.clear()

        assert dict(schedule.options()) == expected

    def test_depends_on_nothing_else(self, schedule: LossSchedule) -> None:
        """Two that are told the same decide the same, and neither draws from anyone's random numbers."""

        @given(self.runs())
        def check(run: Sequence[Mapping[str, float]]) -> None:
            first = self.play(self.begin(schedule), run)
            before = random.getstate(), torch.get_rng_state().tolist()
            second = self.play(self.begin(schedule), run)

            assert first == second
            assert before == (random.getstate(), torch.get_rng_state().tolist())

        check()

    def test_leaves_what_it_is_told_alone(self, schedule: LossSchedule) -> None:
        """It takes mappings that nobody can write to."""
        asked = copy.deepcopy(schedule)
        asked.start(MappingProxyType(dict(self.base)))
        moment = LossMoment(
            step=1,
            base=MappingProxyType(dict(self.base)),
            weights=MappingProxyType(dict(self.base)),
            losses=MappingProxyType(dict.fromkeys(self.base, 1.0)) if asked.needs_losses else None,
            metrics=MappingProxyType(dict.fromkeys(self.metrics, 1.0)),
        )

        assert set(asked.decide(moment) or {}) == set(self.base)

    def test_tells_its_options_and_itself(self, schedule: LossSchedule) -> None:
        """Options are plain data, and a reader of a log can see which formula was in use."""
        assert _through_json(schedule.options()) == dict(schedule.options())
        assert self.begin(schedule).explain().strip()
        assert schedule.name.strip()


class _Nothing(nn.Module):
    """A component that is never asked."""

    def forward(
        self, pred: Tensor, target: Tensor, *, mask: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        return pred.sum()

    def explain(self) -> str:
        return "nothing"


def _through_json(state: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(dict(state), allow_nan=False))


def _through_torch(state: Mapping[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
