"""Managers by one word: what they save and keep in a directory, and configurations by name."""

import pytest

import mlc_core
from mlc_core import (
    AutoCheckpointManager,
    CheckpointManager,
    ConfigurationError,
    Monitor,
    create_checkpoint_manager,
    get_preset_checkpoint_config,
)
from mlc_core.presets import PRESETS
from mlc_core.retention import (
    KeepAll,
    KeepBest,
    KeepBestAndLatest,
    KeepLatest,
    KeepPareto,
    KeepSpaced,
    KeepWithinBudget,
)
from mlc_core.strategies import (
    Adaptive,
    Best,
    FromFunction,
    Milestones,
    OnException,
    OverheadBudget,
    PerformanceBased,
    TimeBased,
)
from mlc_hooks import OptionsError, UnknownNameError

PLATEAU = [0.9, 0.5, *[0.501] * 14]


def train(manager, losses, metric="val_loss", start=1):
    """Return the epochs that are saved, the weights being the loss."""
    return [
        epoch
        for epoch, loss in enumerate(losses, start)
        if manager.save_checkpoint({"loss": [loss]}, epoch=epoch, metrics={metric: loss})
    ]


def epochs(manager):
    """Return the epochs that are there."""
    return [one.epoch for one in manager.list_checkpoints()]


def test_adaptive_saves_ever_more_rarely_and_resumes(place):
    """A manager made anew in the middle of the run goes on with the interval that was reached."""
    whole = AutoCheckpointManager(place, "whole", "adaptive", retention=KeepAll())
    expected = train(whole, PLATEAU)
    found = []
    for epoch, loss in enumerate(PLATEAU, 1):
        if not found or epoch - 1 == found[-1]:  # it stops after each save
            manager = AutoCheckpointManager(place, "stopped", retention=KeepAll())
        found += train(manager, [loss], start=epoch)

    assert [1, 2, 3, 5, 9] == expected == found
    assert ["best val_loss so far: 0.5", "1 epoch since the last save, val_loss moved"] == list(
        whole.list_checkpoints()[1].reasons
    )


def test_performance_based_keeps_the_best_ones_and_the_latest(place):
    """And saves only real improvements."""
    manager = AutoCheckpointManager(place, "unet", "performance_based", 3, "dice", "max")
    saved = train(manager, [0.5, 0.6, 0.7, 0.701, 0.8, 0.79], metric="dice")

    assert [1, 2, 3, 5] == saved
    assert KeepBest(metric="dice", mode="max", count=2) | KeepLatest() == manager.retention
    assert [3, 5] == epochs(manager)


def test_time_based_goes_by_running_time(place, monkeypatch):
    """Also from one process to the next."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    saved = []
    for process in range(2):
        manager = AutoCheckpointManager(
            place, "unet", "time_based", strategy_options={"minutes": 10}, retention=KeepAll()
        )
        for epoch in range(process * 4, process * 4 + 4):
            now[0] += 240
            saved += train(manager, [1.0], start=epoch)
        now[0] += 1e6  # the machine is off

    assert [2, 6] == saved
    assert [720.0, 1440.0] == [one.elapsed for one in manager.list_checkpoints()]


@pytest.mark.parametrize(
    ("word", "strategy"),
    [("adaptive", Adaptive()), ("performance_based", PerformanceBased()), ("time_based", TimeBased())],
)
def test_defaults(place, word, strategy):
    """Five checkpoints, by the loss on data that was not trained on."""
    manager = AutoCheckpointManager(place, "unet", auto_strategy=word)

    assert isinstance(manager, CheckpointManager)
    assert strategy == manager.strategy
    assert Monitor(metric="val_loss", mode="min") == manager.monitor
    train(manager, [1.0 / epoch for epoch in range(1, 20)])
    assert 5 >= len(epochs(manager))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"auto_strategy": "best"}, ConfigurationError, "'best' must be 'adaptive' or 'performance_based' or 'time"),
        ({"monitor_metric": "dice"}, ConfigurationError, "monitor_metric='dice' and mode=None go together"),
        ({"strategy_options": {"minutes": 1}}, OptionsError, "'adaptive'.*minutes.*it takes: shortest, longest"),
        ({"max_checkpoints": 2, "retention": KeepAll()}, ConfigurationError, "both say what to keep"),
        ({"max_checkpoints": 1}, ConfigurationError, "max_checkpoints=1 cannot keep both"),
        ({"max_checkpoints": 1, "auto_strategy": "performance_based"}, ConfigurationError, "cannot keep both"),
        ({"max_checkpoints": 0, "auto_strategy": "performance_based"}, ConfigurationError, "=0 must be 1 or more"),
        ({"mode": "up", "monitor_metric": "dice"}, ConfigurationError, "mode='up' for 'dice' must be"),
    ],
)
def test_options_that_contradict_each_other(place, options, error, message):
    """As for every manager."""
    with pytest.raises(error, match=message):
        AutoCheckpointManager(place, "unet", **options)


# ---------------------------------------------------------------------- presets


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_makes_a_manager(place, name):
    """That saves."""
    manager = create_checkpoint_manager(place, "unet", get_preset_checkpoint_config(name))
    manager.save_checkpoint({}, epoch=1, metrics={"val_dice": 0.5, "val_loss": 0.5}, reason="to see it work")

    assert [1] == epochs(manager)


def test_configurations_are_the_managers_arguments(place):
    """Of one or the other manager."""
    best = create_checkpoint_manager(place, "a", get_preset_checkpoint_config("best_only"))
    auto = create_checkpoint_manager(
        place, "b", {**get_preset_checkpoint_config("time_based"), "strategy_options": {"minutes": 5}}
    )

    assert (Best(), KeepBestAndLatest(count=3, metric="val_dice", mode="max")) == (best.strategy, best.retention)
    assert TimeBased(minutes=5) == auto.strategy


def test_preset_may_be_changed():
    """It is a copy."""
    get_preset_checkpoint_config("adaptive")["max_checkpoints"] = 99

    assert 5 == get_preset_checkpoint_config("adaptive")["max_checkpoints"]


def test_unknown_presets_and_options_are_refused(place):
    """With what is close, or what there is."""
    with pytest.raises(UnknownNameError, match=r"Unknown checkpoint preset 'adaptiv'.*adaptive"):
        get_preset_checkpoint_config("adaptiv")
    with pytest.raises(
        ConfigurationError, match=r"max_saves: no such option of manager_type='standard', which takes .*m"
    ):
        create_checkpoint_manager(place, "unet", {"max_saves": 5})
    with pytest.raises(ConfigurationError, match="save_strategy: no such option of manager_type='auto'"):
        create_checkpoint_manager(place, "unet", {"manager_type": "auto", "save_strategy": "best"})
    with pytest.raises(ConfigurationError, match="manager_type='magic' must be 'standard' or 'auto'"):
        create_checkpoint_manager(place, "unet", {"manager_type": "magic"})


def test_everything_new_can_be_had_from_the_package():
    """By the names that the documents use."""
    assert AutoCheckpointManager is mlc_core.AutoCheckpointManager


# ---------------------------------------------------------------------- with a real manager


def test_many_new_ones_and_few_old_ones(place):
    """What a long run looks like after it was pruned at each save."""
    manager = CheckpointManager(
        place, "unet", Milestones(every=10), retention=KeepSpaced(newest=2, each={100: 3, 500: None})
    )
    for step in range(5, 1300, 5):
        manager.save_checkpoint({}, step=step, epoch_ended=False)

    assert [490, 990, 1090, 1190, 1280, 1290] == [one.step for one in manager.list_checkpoints()]
    assert "the last of steps 500–999" in {one.reason for one in manager.plan()}


def test_front_of_two_metrics(place):
    """Accuracy against size, and the latest to go on from."""
    policy = KeepPareto(metrics={"accuracy": "max", "seconds": "min"}) | KeepLatest()
    manager = CheckpointManager(place, "unet", retention=policy)
    for epoch, (accuracy, seconds) in enumerate([(0.5, 9), (0.6, 9), (0.4, 2), (0.9, 20), (0.3, 20)], 1):
        manager.save_checkpoint({}, epoch=epoch, metrics={"accuracy": accuracy, "seconds": seconds})

    assert [2, 3, 4, 5] == epochs(manager)


def test_budget_counts_what_the_manifests_say(place):
    """The latest, and as many before it as fit."""
    manager = CheckpointManager(place, "unet", retention=KeepAll())
    for epoch in range(1, 6):
        manager.save_checkpoint({"epoch": epoch}, epoch=epoch)
    files = {file.xxh3_128: file.size for one in manager.list_checkpoints()[-3:] for file in one.files}
    smaller = CheckpointManager(place, "unet", retention=KeepWithinBudget(size=sum(files.values())))
    smaller.prune()

    assert [3, 4, 5] == epochs(smaller)


def test_overhead_is_measured_in_a_real_run(place, monkeypatch):
    """The first save measures; the next comes when it has been paid for."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    class Slow:
        """It takes 3 seconds to say what it is."""

        def state_dict(self):
            now[0] += 3
            return {"weight": 1.0}

    manager = CheckpointManager(place, "unet", OverheadBudget(percent=10), retention=KeepAll())
    saved = []
    for step in range(1, 100):
        now[0] += 1
        if manager.save_checkpoint(Slow(), step=step, epoch_ended=False):
            saved.append(step)

    assert [1, 28, 55, 82] == saved


def test_exception_and_function_in_one_strategy(place):
    """What a user writes: improved or every third epoch, and when something breaks."""
    strategy = FromFunction(lambda moment: moment.improved or moment.epoch % 3 == 0) | OnException()
    manager = CheckpointManager(place, "unet", strategy, 9, "dice", "max")
    saved = train(manager, [0.5, 0.4, 0.3, 0.2, 0.6], metric="dice")

    assert [1, 3, 5] == saved
    assert "RuntimeError ends the training" == manager.due(epoch=6, exception="RuntimeError")
