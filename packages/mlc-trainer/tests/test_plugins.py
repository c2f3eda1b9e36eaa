"""Callbacks and trackers: by name, and harmless whatever they do."""

import threading
import time

import pytest
import torch

from mlc_hooks import OptionsError, UnknownNameError, hookimpl
from mlc_hooks.plugins import Choice, Plugins
from mlc_trainer import ExperimentManager, callbacks, create_training_manager, from_data, trackers
from mlc_trainer.observers import Journal
from mlc_trainer.observers.isolation import Follower, Isolated
from mlc_trainer.observers.profile import StepProfiler
from mlc_trainer.testing import ObserverContract, tell_a_run

MOMENTS = ("run_started", "step_ended", "step_logged", "epoch_ended", "rolled_back", "checkpoint_saved", "run_ended")


class Noted:
    """Notes what it hears, in which thread; fails or waits when it is told to."""

    def __init__(self, *, fails_at=None, waits=0.0):
        self.heard, self.threads = [], set()
        self._fails_at, self._waits = fails_at, waits

    def __getattr__(self, moment):
        if moment not in MOMENTS:
            raise AttributeError(moment)

        def hear(*facts):
            self.threads.add(threading.current_thread())
            time.sleep(self._waits)
            if moment == self._fails_at:
                raise ConnectionError("the server is gone")  # noqa: EM101
            self.heard.append((moment, facts))

        return hear


class TestIsolated(ObserverContract):
    """What is told on keeps the contract."""

    @pytest.fixture
    def observer(self):
        """Tell one who notes."""
        return Isolated("noted", Noted())


class TestFollower(ObserverContract):
    """So does what is told later."""

    @pytest.fixture
    def observer(self):
        """Tell one who notes."""
        return Follower("noted", Noted())


class TestJournal(ObserverContract):
    """The journal is an observer."""

    @pytest.fixture
    def observer(self, tmp_path):
        """Write."""
        return Journal(tmp_path / "metrics.jsonl")


class TestProfiler(ObserverContract):
    """The profiler is one, too."""

    @pytest.fixture
    def observer(self):
        """Profile what is no training."""
        return StepProfiler(1, 2)


class TestTensorBoard(ObserverContract):
    """And TensorBoard."""

    @pytest.fixture
    def observer(self):
        """Write its files."""
        pytest.importorskip("tensorboard")
        return trackers().make("tensorboard")


def test_tensorboard_reads_what_was_written(tmp_path):
    """Each number once, a restart included."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = trackers().make("tensorboard")
    tell_a_run(tracker, tmp_path)
    tell_a_run(tracker, tmp_path, first=4)
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()

    assert [1, 2, 3, 4, 5, 6] == [one.step for one in found.Scalars("step/loss")]
    assert [3, 6] == [one.step for one in found.Scalars("epoch/val_dice")]


@pytest.mark.parametrize("moment", [one for one in MOMENTS if one != "step_ended"])
def test_who_fails_is_told_nothing_more_and_harms_nothing(moment, tmp_path, caplog):
    """In the loop and in a thread."""
    for make in (Isolated, Follower):
        noted = Noted(fails_at=moment)
        tell_a_run(make("brittle", noted), tmp_path)
        assert all(heard != moment for heard, _ in noted.heard)
    assert 2 == sum(
        f"failed at {moment} and is told nothing more: the server is gone" in one for one in caplog.messages
    )


def test_follower_is_told_in_order_in_its_own_thread(tmp_path):
    """Everything but single steps."""
    one, other = Noted(), Noted()
    tell_a_run(Isolated("in the loop", one), tmp_path)
    tell_a_run(Follower("beside it", other), tmp_path)

    assert [heard for heard in map(str, one.heard) if "step_ended" not in heard] == list(map(str, other.heard))
    assert {threading.current_thread()} == one.threads
    assert threading.current_thread() not in other.threads


def test_nobody_waits_for_a_hung_tracker(tmp_path, caplog):
    """The run does, at its end, but not for ever."""
    tell_a_run(Follower("hung", Noted(waits=60.0), patience=0.2), tmp_path)
    assert "tracker 'hung' has not heard everything after 0.2 s" in caplog.text


def test_what_is_too_much_is_dropped_and_counted(tmp_path, caplog):
    """Memory has an end."""
    tell_a_run(Follower("slow", Noted(waits=0.05), room=2), tmp_path)
    assert "tracker 'slow' was too slow" in caplog.text


# ---------------------------------------------------------------------- by name


class Plugin:
    """Offers a callback and a tracker, which note."""

    def __init__(self):
        self.made = []

    @hookimpl
    def mlc_callbacks(self):
        """Offer one."""
        return {"noted": self._make}

    @hookimpl
    def mlc_trackers(self):
        """Offer one."""
        return {"noted": self._make}

    def _make(self, *, fails_at=None):
        self.made.append(Noted(fails_at=fails_at))
        return self.made[-1]


@pytest.fixture
def offered(monkeypatch):
    """Return what the plugin has made."""
    plugins, plugin = Plugins(strict=False, choice=Choice(only=frozenset())), Plugin()
    plugins.add_home("mlc_trainer")
    plugins.add_home("mlc_core")
    plugins.add_home("mlc_losses")
    plugins.register(plugin, "noting")
    monkeypatch.setattr("mlc_hooks.catalog.shared", lambda: plugins)
    return plugin.made


def test_configuration_names_them(offered, configure, plain, tmp_path, bits):
    """They hear of the run, and what they break changes no bit."""
    table = {"callbacks": [{"name": "noted", "options": {"fails_at": "step_logged"}}], "trackers": [{"name": "noted"}]}
    ExperimentManager(from_data({**plain(), **table}), tmp_path / "run").run()
    callback, tracker = offered
    ExperimentManager(configure(), tmp_path / "other").run()

    assert "step_ended" == callback.heard[-1][0]
    assert ("run_started", "run_ended") == (tracker.heard[0][0], tracker.heard[-1][0])
    assert 3 == tracker.heard[0][1][0].config["training"]["num_epochs"]
    left, right = bits(tmp_path / "run")[0], bits(tmp_path / "other")[0]
    assert left["model.safetensors"] == right["model.safetensors"]


def test_manager_of_an_own_loop_tells_the_trackers_of_plugins(offered, tmp_path):
    """Unless it is told not to."""
    create_training_manager(tmp_path / "quiet", "net", enhanced=False)
    assert [] == offered
    manager = create_training_manager(tmp_path / "told", "net", checkpoint_preset="every_epoch")
    model = torch.nn.Conv2d(1, 1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    for epoch in manager.epochs(1):
        manager.train_step(model, batch, optimizer)
        manager.save_checkpoint(model, optimizer, None, epoch)

    assert ["run_started", "epoch_ended", "checkpoint_saved", "run_ended"] == [one for one, _ in offered[0].heard]


def test_unknown_names_and_options_are_refused(configure, plain, tmp_path):
    """Before anything is written."""
    for table, error, message in (
        ({"callbacks": [{"name": "profilr"}]}, UnknownNameError, "profiler"),
        ({"trackers": [{"name": "tensorbord"}]}, UnknownNameError, "tensorboard"),
        ({"callbacks": [{"name": "profiler", "options": {"step": 1}}]}, OptionsError, "it takes: wait, steps"),
    ):
        with pytest.raises(error, match=message):
            ExperimentManager(from_data({**plain(), **table}), tmp_path / "run").run()
    assert not (tmp_path / "run").exists()
    assert "profiler" in callbacks().names()


def test_profiler_writes_where_the_time_goes(plain, tmp_path):
    """A trace and a table."""
    table = {"callbacks": [{"name": "profiler", "options": {"wait": 2, "steps": 3}}]}
    ExperimentManager(from_data({**plain(), **table}), tmp_path / "run").run()

    assert "traceEvents" in (tmp_path / "run/profile.json").read_text()
    assert "aten::" in (tmp_path / "run/profile.txt").read_text()
