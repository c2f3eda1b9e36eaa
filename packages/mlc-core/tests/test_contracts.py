"""Our own parts hold to the contracts that we ask of others'."""

import pytest

from mlc_core.retention import (
    AllOf,
    AnyOf,
    KeepAll,
    KeepBest,
    KeepBestAndLatest,
    KeepEvery,
    KeepLatest,
    KeepPareto,
    KeepRecent,
    KeepSpaced,
    KeepUnrepeated,
    KeepWithin,
    KeepWithinBudget,
)
from mlc_core.serializers import Safetensors
from mlc_core.storage import LocalStorage, MemoryStorage
from mlc_core.strategies import (
    Adaptive,
    All,
    Best,
    Epoch,
    FromFunction,
    Interval,
    Milestones,
    OnException,
    OnSignal,
    OverheadBudget,
    PerformanceBased,
    TimeBased,
    WallClock,
    YoungDaly,
)
from mlc_core.strategies import AllOf as AllStrategies
from mlc_core.strategies import AnyOf as AnyStrategy
from mlc_core.testing import RetentionContract, SaveStrategyContract, SerializerContract, StorageContract
from mlc_hooks.testing import PluginContract


class TestPlugin(PluginContract):
    @pytest.fixture
    def plugin_name(self):
        """The name of this distribution."""
        return "mlc-core"


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path):
        """A directory that is not there yet."""
        return LocalStorage(tmp_path / "deep" / "below" / "model")


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self, memory_url):
        """Some memory."""
        return MemoryStorage.from_url(memory_url)


class TestSafetensors(SerializerContract):
    @pytest.fixture
    def serializer(self):
        """The one that is used unless another is named."""
        return Safetensors()


class Counting:
    """A strategy with a memory: every third moment."""

    def __init__(self):
        self.seen = 0

    def should_save(self, moment):
        """Count."""
        self.seen += 1
        return "the third" if self.seen % 3 == 0 else None

    def state_dict(self):
        """Remember the count."""
        return {"seen": self.seen}

    def load_state_dict(self, state):
        """Go on counting."""
        self.seen = state["seen"]


STRATEGIES = {
    "best": Best(),
    "epoch": Epoch(),
    "all": All(),
    "every 2 epochs": Interval(every=2),
    "every 3 steps": Interval(every=3, unit="steps"),
    "counting": Counting(),
    "adaptive": Adaptive(),
    "adaptive within bounds": Adaptive(shortest=2, longest=3, tolerance=0.5),
    "performance": PerformanceBased(),
    "any improvement": PerformanceBased(improvement=0, relative=False, longest=2),
    "every 30 minutes": TimeBased(),
    "every 2 minutes": TimeBased(minutes=2),
    "overhead": OverheadBudget(percent=10),
    "young and daly": YoungDaly(mtbf_hours=1),
    "milestones": Milestones(at=[0], doubling_to=4, every=5),
    "milestone epochs": Milestones(at=[1, 3], unit="epochs"),
    "every 2 hours": WallClock(hours=2, clock=lambda: 1e9),
    "twice a day": WallClock(at=["06:30", "18:00"], clock=lambda: 1e9),
    "exception": OnException(),
    "interrupt": OnException(only=["KeyboardInterrupt"]),
    "function": FromFunction(lambda moment: moment.improved or moment.step == 4),
    "any": AnyStrategy((Best(), Counting(), Interval(every=4, unit="steps"))),
    "any of none": AnyStrategy(()),
    "all of": TimeBased(minutes=2) & Counting() & Epoch(),
    "all of none": AllStrategies(()),
    "all of any": (Adaptive() | OverheadBudget() | OnException()) & (Milestones(every=2) | PerformanceBased()),
}


class TestStrategies(SaveStrategyContract):
    @pytest.fixture(params=STRATEGIES.values(), ids=STRATEGIES.keys())
    def strategy(self, request):
        """Each of ours, and combinations."""
        return request.param


class TestOnSignal(SaveStrategyContract):
    @pytest.fixture
    def strategy(self):
        """One that gets no signal."""
        with OnSignal(signals=["SIGUSR1"]) as strategy:
            yield strategy


class TestPolicies(RetentionContract):
    @pytest.fixture(
        params=[
            KeepAll(),
            KeepLatest(count=3),
            KeepLatest(count=2, epoch_ends_only=True),
            KeepBest(metric="score", mode="max", count=2),
            KeepUnrepeated(),
            KeepBestAndLatest(count=1),
            KeepBestAndLatest(count=3, metric="score", mode="max"),
            KeepEvery(every=2),
            KeepEvery(every=3, unit="steps", closest=True),
            KeepSpaced(newest=1, each={1: 2, 2: None}),
            KeepSpaced(each={0.5: 1, 2: 2}, unit="hours"),
            KeepWithin(metric="score", mode="max", tolerance=0.5),
            KeepWithin(metric="loss", mode="min", tolerance=0.5, relative=True),
            KeepRecent(hours=1),
            KeepRecent(hours=0),
            KeepWithinBudget(size=1100),
            KeepWithinBudget(size="1.2kB", metric="loss", mode="min"),
            KeepPareto(metrics={"loss": "min", "score": "max"}),
            KeepPareto(metrics={"loss": "min"}),
            KeepBest(metric="loss", mode="min") | (KeepLatest(count=2, epoch_ends_only=True) & KeepUnrepeated()),
            (KeepRecent(hours=1) & KeepEvery(every=2)) | KeepPareto(metrics={"loss": "min", "score": "max"}),
            AnyOf(()),
            AllOf(()),
        ],
        ids=str,
    )
    def policy(self, request):
        """Each of ours, and combinations."""
        return request.param


@pytest.mark.parametrize(
    ("contract", "fixture"),
    [
        (RetentionContract, "policy"),
        (SaveStrategyContract, "strategy"),
        (SerializerContract, "serializer"),
        (StorageContract, "storage"),
    ],
)
def test_contract_asks_for_its_fixture(pytester, contract, fixture):
    """An author who forgets the fixture is told its name."""
    pytester.makepyfile(f"from mlc_core.testing import {contract.__name__}\nclass TestMine({contract.__name__}): ...")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-x")

    result.stdout.fnmatch_lines([f"*NotImplementedError: give the fixture {fixture}*"])
