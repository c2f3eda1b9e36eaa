"""Our own schedules keep the contract of third-party authors, and the contract finds what it is for."""

import copy
import random
from types import MappingProxyType

import pytest
from hypothesis import Phase, settings

from mlc_losses import LossConfigError, loss_schedules
from mlc_losses.testing import ScheduleContract

make = loss_schedules().make
EVEN = {"dice": 0.5, "bce": 0.5}


class TestByTime(ScheduleContract):
    @pytest.fixture(
        params=[
            ("cosine", {}),
            ("cosine", {"steps": 4, "end": {"dice": 0.2, "bce": 0.8}, "warmup": 2}),
            ("cosine", {"steps": 2, "cycles": None, "period_multiplier": 1.5}),
            ("cosine", {"steps": 3, "end": {"dice": 2, "bce": 3}, "keep_sum": False}),
            ("step", {"milestones": {1: EVEN, 4: {"dice": 0.1, "bce": 0.9}}}),
            ("step", {"milestones": {"2": {"dice": 2, "bce": 0}}, "keep_sum": False}),
            ("step", {"step_size": 2, "gamma": {"dice": 0.5, "bce": 1.5}}),
        ],
        ids=str,
    )
    def schedule(self, request):
        """Return schedules that need no number."""
        name, options = request.param
        return make(name, **options)


class TestByMetric(ScheduleContract):
    metrics = ("val_loss",)

    @pytest.fixture(
        params=[
            {},
            {"patience": 0},
            {"patience": 1, "cooldown": 1, "mode": "max", "factors": {"dice": 0.5, "bce": 2}, "max_moves": 2},
            {"patience": 0, "threshold_mode": "abs", "target": {"dice": 0, "bce": 1}, "min_delta": 0.1},
        ],
        ids=str,
    )
    def schedule(self, request):
        """Return schedules that watch a metric."""
        return make("performance", **request.param)


class TestByLosses(ScheduleContract):
    @pytest.fixture(
        params=[
            {},
            {"method": "inverse", "ema": 0.9, "rho": 0, "hold": 2},
            {"method": "softadapt", "beta": 5},
            {"method": "softadapt", "loss_weighted": True, "rho": 0.9},
            {"method": "dwa"},
            {"method": "dwa", "ema": 0.5, "temperature": 0.1},
            {"method": "relobralo"},
            {"method": "relobralo", "alpha": 0.5, "lookback": 0.5, "seed": 3},
            {"method": "uncertainty"},
        ],
        ids=str,
    )
    def schedule(self, request):
        """Return schedules that follow the components."""
        return make("adaptive", **request.param)


class TestWithinBounds(ScheduleContract):
    base = MappingProxyType({"dice": 0.5, "bce": 0.3, "surface": 0.2})
    metrics = ("val_loss",)
    low, high = 0.15, 0.6
    bounds = MappingProxyType({"min_weight": 0.15, "max_weight": 0.6})

    @pytest.fixture(params=["step", "performance", "inverse", "softadapt", "dwa", "relobralo"])
    def schedule(self, request):
        """Return schedules that would go further if they could."""
        if request.param == "step":
            return make("step", step_size=1, gamma={"dice": 9, "bce": 1, "surface": 0}, **self.bounds)
        if request.param == "performance":
            factors = {"dice": 0, "bce": 4, "surface": 1}
            return make("performance", patience=0, factors=factors, **self.bounds)
        return make("adaptive", method=request.param, **self.bounds)

    def test_what_is_not_finite_moves_nothing(self, schedule):
        """Covered for each kind by the numbers that it goes by."""


class Good:
    """A schedule that can be spoilt: it halves the first weight for good when told to."""

    name, needs_losses, keeps_sum, learns = "good", True, True, False

    def __init__(self):
        self.seen = 0

    def start(self, base):
        """Do nothing."""

    def decide(self, moment):
        """Swap weights at every step."""
        self.seen += 1
        return dict(zip(moment.weights, reversed(moment.weights.values()), strict=True))

    def options(self):
        """Return none."""
        return {}

    def state_dict(self):
        """Return how much was seen."""
        return {"seen": self.seen}

    def load_state_dict(self, state):
        """Take it over."""
        self.seen = state["seen"]

    def explain(self):
        """Return a sentence."""
        return "swaps"


class Lavish(Good):
    """Lets the sum grow."""

    def decide(self, moment):
        """Return more than there was."""
        return {name: 2 * one for name, one in moment.weights.items()}


class Forgetful(Good):
    """Remembers what it does not save."""

    def decide(self, moment):
        """Swap only at the first step."""
        self.seen += 1
        return super().decide(moment) if self.seen < 3 else moment.weights

    def state_dict(self):
        """Return nothing."""
        return {}

    def load_state_dict(self, state):
        """Take nothing over."""


class Gambler(Good):
    """Draws from everyone's random numbers."""

    def decide(self, moment):
        """Return weights by chance."""
        share = random.random()
        return {"dice": share, "bce": 1 - share}


class Scribbler(Good):
    """Writes into what it is told."""

    def decide(self, moment):
        """Return the mapping itself."""
        moment.weights["dice"], moment.weights["bce"] = moment.weights["bce"], moment.weights["dice"]
        return moment.weights


class Odd(Good):
    """Remembers what JSON does not have."""

    def state_dict(self):
        """Return a set."""
        return {"seen": {self.seen}}


class Mute(Good):
    """Explains nothing."""

    name = ""


class Trusting(Good):
    """Takes over what is not there."""

    def load_state_dict(self, state):
        """Begin at 0 if nobody says where."""
        self.seen = state.get("seen", 0)


class Open(Good):
    """Hands out its own options."""

    def __init__(self):
        super().__init__()
        self.table = {"a": 1}

    def options(self):
        """Return the table itself."""
        return {"table": self.table}


class Wasteful(Good):
    """Says a metric of NaN is worth a move."""

    needs_losses = False


class TestGood(ScheduleContract):
    @pytest.fixture
    def schedule(self):
        """Return what is to be spoilt."""
        return Good()


@pytest.fixture
def as_found():
    """Leave examples as they are found: that there is one is the point, and making it small takes most of the time."""
    ours = settings.get_current_profile_name()
    settings.register_profile("as found", settings.default, phases=[Phase.generate])
    settings.load_profile("as found")
    yield
    settings.load_profile(ours)


@pytest.mark.usefixtures("as_found")
@pytest.mark.parametrize(
    ("schedule", "check"),
    [
        (Lavish(), lambda c, one: c.test_sum_is_kept(one)),
        (Forgetful(), lambda c, one: c.test_goes_on_after_a_restart(one)),
        (Gambler(), lambda c, one: c.test_depends_on_nothing_else(one)),
        (Scribbler(), lambda c, one: c.test_leaves_what_it_is_told_alone(one)),
        (Odd(), lambda c, one: c.test_state_is_plain_data(one)),
        (Trusting(), lambda c, one: c.test_state_that_lacks_a_key_changes_nothing(one)),
        (Open(), lambda c, one: c.test_options_are_copies(one)),
        (Mute(), lambda c, one: c.test_tells_its_options_and_itself(one)),
    ],
)
def test_contract_finds_spoilt_schedules(schedule, check):
    """Each mistake fails the test that is for it."""
    with pytest.raises((AssertionError, TypeError, pytest.fail.Exception)):
        check(ScheduleContract(), copy.deepcopy(schedule))


@pytest.mark.usefixtures("as_found")
def test_contract_finds_who_follows_nan():
    """A schedule that goes by a metric must not move when it is NaN."""

    class Watched(ScheduleContract):
        metrics = ("val_loss",)

    with pytest.raises(AssertionError):
        Watched().test_what_is_not_finite_moves_nothing(Wasteful())


def test_weights_that_are_none_are_refused():
    """A schedule that returns NaN, or forgets a component, is named."""

    class Lost(Good):
        def decide(self, moment):
            return {"dice": 1.0}

    class Nan(Good):
        def decide(self, moment):
            return {"dice": float("nan"), "bce": 1.0}

    for schedule, says in ((Lost(), "'good' decided is for"), (Nan(), "'good' decided.*nan")):
        with pytest.raises(LossConfigError, match=says):
            ScheduleContract().begin(schedule).step(0, {"dice_loss": 1, "bce_loss": 1})


def test_contract_wants_a_schedule():
    """A subclass that forgets its fixture is told so."""
    with pytest.raises(NotImplementedError, match="give the fixture schedule"):
        ScheduleContract.schedule.__wrapped__(ScheduleContract())
