"""Our own parts hold to the contracts that we ask of others'."""

import pytest

from mlc_core.retention import AllOf, AnyOf, KeepAll, KeepBest, KeepBestAndLatest, KeepLatest, KeepUnrepeated
from mlc_core.serializers import Safetensors
from mlc_core.storage import LocalStorage, MemoryStorage
from mlc_core.strategies import All, Best, Epoch, Interval
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


class TestStrategies(SaveStrategyContract):
    @pytest.fixture(
        params=[
            Best(),
            Epoch(),
            All(),
            Interval(every=2),
            Interval(every=3, unit="steps"),
            Counting(),
            AnyStrategy((Best(), Counting(), Interval(every=4, unit="steps"))),
            AnyStrategy(()),
        ],
        ids=repr,
    )
    def strategy(self, request):
        """Each of ours, and combinations."""
        return request.param


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
            KeepBest(metric="loss", mode="min") | (KeepLatest(count=2, epoch_ends_only=True) & KeepUnrepeated()),
            AnyOf(()),
            AllOf(()),
        ],
        ids=repr,
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
