"""Callbacks with numbers of their own: rates, gradients, speed."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from mlc_trainer import ConfigError, ExperimentManager, Monitor, TrainingManager, callbacks, from_data, read_journal
from mlc_trainer.engine import Position
from mlc_trainer.observers.isolation import isolate
from mlc_trainer.observers.learning_rates import LearningRates
from mlc_trainer.observers.throughput import Throughput
from mlc_trainer.testing import ObserverContract

SPEED = {"samples_per_second", "steps_per_second", "data_wait"}


@pytest.fixture
def steps_of(plain, tmp_path):
    """Train with callbacks, and return the journal's lines of steps."""

    def train(*names, watching=(), **tables):
        told = [{"name": name, "options": options} for name, options in names]
        run_dir = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        config = from_data({**plain(**tables), "callbacks": told})
        ExperimentManager(config, run_dir, observers=watching).run()
        return [line for line in read_journal(run_dir / "metrics.jsonl") if line["event"] == "step"]

    return train


@pytest.mark.parametrize(
    "options",
    [("lr_monitor", {}), ("gradient_norm", {}), ("gradient_norm", {"modules": True}), ("throughput", {})],
    ids=str,
)
class TestMonitors(ObserverContract):
    """Each is an observer, by itself and kept apart."""

    @pytest.fixture(params=[lambda one: one, lambda one: isolate("kept apart", one)], ids=["bare", "isolated"])
    def observer(self, options, request):
        """Make it by name."""
        name, rest = options
        return request.param(callbacks().make(name, **rest))


def test_rates_of_all_groups_are_logged(steps_of):
    """Beside the rate of the first, which always is."""
    lines = steps_of(("lr_monitor", {}), scheduler={"name": "StepLR", "options": {"step_size": 2}})

    assert all(line["lr"] == line["lr_0"] for line in lines)
    assert 1 < len({line["lr_0"] for line in lines})


@pytest.mark.parametrize("clip_norm", [None, 1e-3])
def test_norm_of_the_gradient_is_that_before_clipping(clip_norm, steps_of):
    """Of the whole, and of each child; both clipped and not."""
    told = "gradient_norm", {"modules": True}
    table = {"clip_norm": clip_norm, "log_every": 1, "num_epochs": 1}
    lines = steps_of(told, model={"factory": "tiny:Stack"}, training=table)
    # the first step is the same one, clipped or not
    unclipped = steps_of(told, model={"factory": "tiny:Stack"}, training={**table, "clip_norm": None})[0]
    parts = [f"grad_norm_{name}" for name in ("first", "blocks", "last")]

    assert 1e-2 < lines[0]["grad_norm"]
    for name in ("grad_norm", *parts):
        assert unclipped[name] == pytest.approx(lines[0][name], rel=1e-4)
    for line in lines:
        assert line["grad_norm"] == pytest.approx(sum(line[part] ** 2 for part in parts) ** 0.5, rel=1e-4)


def test_gradients_are_looked_at_as_often_as_is_said(steps_of):
    """Every second step, of those that are logged."""
    lines = steps_of(("gradient_norm", {"every": 2}), training={"log_every": 1})

    assert [2, 4, 6, 8] == [line["step"] for line in lines if "grad_norm" in line]
    with pytest.raises(ConfigError, match="every = 0 must be 1 or more"):
        callbacks().make("gradient_norm", every=0)


def test_speed_is_logged(steps_of):
    """Samples are counted, not batches; the share of waiting is a share."""
    lines = steps_of(("throughput", {}), training={"log_every": 1}, data={"drop_last": True})

    for line in lines:
        assert SPEED <= line.keys()
        assert 0 <= line["data_wait"] <= 1
        assert 4 * line["steps_per_second"] == pytest.approx(line["samples_per_second"])


def test_only_waiting_for_batches_and_steps_count(monkeypatch):
    """Whatever else is done between two steps: telling, measuring, copying what is saved in the background."""
    clock = itertools.count()
    now = SimpleNamespace(perf_counter=lambda: hours["past"] + next(clock))
    hours = {"past": 0}
    monkeypatch.setattr("mlc_trainer.observers.throughput.time", now)
    speed, start = Throughput(), Position()
    speed.run_started(None, start)
    for _ in range(3):
        hours["past"] += 3600
        speed.batch_awaited(start)
        speed.step_began(start, 4)
        speed.step_ended(start)
        hours["past"] += 3600
    hours["past"] -= 3600  # a device is waited for, to know the values, and that counts
    found = speed.numbers(None, {})

    assert {"samples_per_second": 12 / 7, "steps_per_second": 3 / 7, "data_wait": 3 / 7} == found


def test_copying_what_is_saved_later_is_no_waiting(configure, tmp_path, watcher):
    """A batch is asked for when that is done."""
    heard = []
    later = {"save_strategy": "interval", "strategy_options": {"every": 1, "unit": "steps"}, "asynchronous": True}

    class Listening(LearningRates):
        """Notes what it hears of."""

        def batch_awaited(self, position):
            """Note it."""
            heard.append("awaited")

        def step_ended(self, position):
            """Note it."""
            heard.append("ended")

    experiment = ExperimentManager(configure(checkpoints=later), tmp_path / "run", observers=[Listening()]).setup()
    save = experiment.checkpoints.async_save_checkpoint
    experiment.checkpoints.async_save_checkpoint = lambda *what, **more: (heard.append("saved"), save(*what, **more))[1]
    experiment.run(1)

    assert ["awaited", "ended", "saved"] * 2 == heard[:6]


def test_monitors_change_no_bit(plain, configure, tmp_path, bits):
    """They only look."""
    names = [{"name": name} for name in ("lr_monitor", "gradient_norm", "throughput")]
    ExperimentManager(from_data({**plain(training={"log_every": 1}), "callbacks": names}), tmp_path / "one").run()
    ExperimentManager(configure(training={"log_every": 1}), tmp_path / "other").run()
    left, right = (bits(tmp_path / name)[0] for name in ("one", "other"))

    assert left["model.safetensors"] == right["model.safetensors"]
    assert left["optimizer.safetensors"] == right["optimizer.safetensors"]


class Failing(LearningRates):
    """A monitor that fails."""

    def numbers(self, engine, values):
        """Fail."""
        raise ConnectionError


class Lying(LearningRates):
    """A monitor that has another loss."""

    def numbers(self, engine, values):
        """Claim that there is none."""
        return {"loss": 0.0, "mine": 1.0}


def test_monitor_that_fails_has_no_numbers_and_harms_nothing(steps_of, caplog):
    """As every callback of a configuration."""
    monitor = isolate("brittle", Failing())
    assert isinstance(monitor, Monitor)
    lines = steps_of(watching=[monitor])

    assert {"loss", "lr"} <= lines[-1].keys()
    assert "callback 'brittle' (Failing) failed at numbers and is told nothing more" in caplog.text


@pytest.mark.parametrize("found", [[1.0], {"mine": "much"}, {"mine": None}, 3.0, False, 0])
def test_isolated_monitor_without_numbers_is_told_nothing_more(found, caplog):
    """What it returns is looked at where its failures are caught."""
    monitor = LearningRates()
    monitor.numbers = lambda *_: found
    apart = isolate("brittle", monitor)

    assert [{}, {}] == [apart.numbers(None, {}) for _ in range(2)]
    assert 1 == caplog.text.count("callback 'brittle' (LearningRates) failed at numbers and is told nothing more")


def test_isolated_monitor_cannot_spoil_the_journal(steps_of, caplog):
    """Names that the journal has for its own are left out, and that is said once; numbers of any kind are floats."""
    monitor = LearningRates()
    told = {"event": 1, "epoch": 2, "step": 3, "at": 4, "mine": torch.tensor(5)}
    monitor.numbers = lambda *_: told
    lines = steps_of(watching=[isolate("rude", monitor)], training={"log_every": 1, "num_epochs": 1})

    assert [(1, 5.0)] * 3 == [(line["epoch"], line["mine"]) for line in lines]
    assert 1 == caplog.text.count("callback 'rude' has a number named 'epoch'")


def test_monitor_cannot_replace_what_was_measured(steps_of):
    """The loss is the loss."""
    lines = steps_of(watching=[Lying()])

    assert all(line["loss"] > 0 and line["mine"] == 1 for line in lines)


def test_loop_of_ones_own_refuses_what_nobody_would_ask(tmp_path):
    """Rather than to log nothing."""
    with pytest.raises(ConfigError, match="LearningRates is a monitor, which only ExperimentManager asks"):
        TrainingManager(tmp_path, "net", observers=[callbacks().make("lr_monitor")])
