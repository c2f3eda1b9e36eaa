"""The manager as the documents show it, and what it says when something cannot be."""

import threading
import warnings
from pathlib import Path

import pytest

from mlc_core import (
    CheckpointManager,
    CheckpointNotFoundError,
    CheckpointWarning,
    ConfigurationError,
    CorruptCheckpointError,
    MismatchError,
    StateError,
    StorageError,
    open_checkpoint,
    open_storage,
)
from mlc_core.retention import KeepAll, KeepBestAndLatest, KeepLatest
from mlc_core.storage import LocalStorage
from mlc_core.strategies import AnyOf, Best, Epoch, Interval
from mlc_hooks import AmbiguousNameError, UnknownNameError


class Thing:
    """Something with a state, as a model has, without torch."""

    def __init__(self, **state):
        self.state = state

    def state_dict(self):
        """Return the state."""
        return dict(self.state)

    def load_state_dict(self, state):
        """Take all of it."""
        self.state = dict(state)


class Module(Thing):
    """A model that can take a part of its state, as torch's can."""

    def load_state_dict(self, state, strict=True):
        """Take what is known."""
        assert not strict or set(state) == set(self.state)
        self.state.update(state)


def manage(place, strategy="epoch", count=None, **options):
    """Open a manager that maximises the score."""
    return CheckpointManager(place, "unet", strategy, count, "score", "max", **options)


def names(manager):
    """Return the names of what is there, in order of commit."""
    return [one.name for one in manager.list_checkpoints()]


SCORES = [0.1, 0.5, 0.3, 0.9, 0.8, 0.7]


@pytest.mark.parametrize(
    ("strategy", "count", "left"),
    [
        ("best", 5, ["epoch_1", "epoch_2", "epoch_4"]),
        ("best", 2, ["epoch_2", "epoch_4"]),
        ("best", 1, ["epoch_4"]),
        ("epoch", 3, ["epoch_4", "epoch_5", "epoch_6"]),
        ("epoch", 2, ["epoch_4", "epoch_6"]),
        ("epoch", None, ["epoch_2", "epoch_3", "epoch_4", "epoch_5", "epoch_6"]),
        ("all", 2, ["epoch_4", "epoch_6"]),
        (Interval(every=2), 2, ["epoch_4", "epoch_6"]),
        (AnyOf((Best(), Interval(every=3))), 9, ["epoch_1", "epoch_2", "epoch_3", "epoch_4", "epoch_6"]),
    ],
    ids=repr,
)
def test_strategy_and_count_of_the_documents(place, strategy, count, left):
    """Save when the strategy says so, keep so many, the best always among them."""
    manager = manage(place, strategy, count)
    paths = [
        manager.save_checkpoint(Thing(w=epoch), epoch=epoch, metrics={"score": score})
        for epoch, score in enumerate(SCORES, 1)
    ]

    assert left == names(manager)
    assert set(left) <= {str(path).rpartition("/")[2] for path in paths if path is not None}
    assert str(manager.get_best_checkpoint_path()).endswith("/unet/epoch_4")
    assert {"w": 4} == manager.load_checkpoint().state["model"]


def test_example_of_the_documents(tmp_path):
    """The one with every argument by name: save, then load into the same objects."""
    manager = CheckpointManager(
        checkpoint_dir=str(tmp_path / "checkpoints"),
        model_name="my_model",
        save_strategy="best",
        max_checkpoints=5,
        monitor_metric="val_dice",
        mode="max",
    )
    model, optimizer, scheduler = Thing(w=[1.5, 2]), Thing(lr=0.1), Thing(last_epoch=3)
    path = manager.save_checkpoint(
        model=model, optimizer=optimizer, scheduler=scheduler, epoch=3, metrics={"val_dice": 0.85, "val_loss": 0.23}
    )
    model.state, optimizer.state, scheduler.state = {"w": None}, {}, {}
    found = manager.load_checkpoint(checkpoint_path=path, model=model, optimizer=optimizer, scheduler=scheduler)

    assert tmp_path / "checkpoints" / "my_model" / "epoch_3" == path
    assert [{"w": [1.5, 2]}, {"lr": 0.1}, {"last_epoch": 3}] == [one.state for one in (model, optimizer, scheduler)]
    assert (3, {"val_dice": 0.85, "val_loss": 0.23}) == (found.saved.epoch, dict(found.saved.metrics))
    assert found.fit.is_exact
    assert ("best val_dice so far: 0.85",) == found.saved.reasons


def test_summary_and_paths(tmp_path):
    """Counts, bytes, the best and the latest; paths by epoch, and of another model in the same directory."""
    manager = manage(tmp_path)
    empty = manager.get_checkpoint_summary()
    for epoch, score in ((1, 0.9), (2, 0.4)):
        manager.save_checkpoint(Thing(w=epoch), epoch=epoch, metrics={"score": score})
    beside = CheckpointManager(tmp_path, "other")

    assert manager.get_checkpoint_summary() == {
        "model_name": "unet",
        "location": str(tmp_path / "unet"),
        "total_checkpoints": 2,
        "total_bytes": sum(one.size for one in manager.list_checkpoints()),
        "damaged": [],
        "monitor_metric": "score",
        "best": "epoch_1",
        "best_metric": 0.9,
        "latest": "epoch_2",
    }
    assert (0, None, None, None) == tuple(
        empty[name] for name in ("total_checkpoints", "best", "best_metric", "latest")
    )
    assert tmp_path / "unet" / "epoch_1" == manager.get_checkpoint_path("unet") == beside.get_checkpoint_path("unet", 1)
    assert tmp_path / "unet" / "epoch_2" == manager.get_checkpoint_path(epoch=2) == manager.get_latest_checkpoint_path()
    assert beside.get_best_checkpoint_path() is beside.get_latest_checkpoint_path() is None
    for miss, what in (
        (lambda: manager.get_checkpoint_path(epoch=7), "is of epoch 7; there are: epoch_1, epoch_2"),
        (lambda: manager.get_checkpoint_path("absent"), "has a number for a monitored metric: there is none yet"),
        (lambda: beside.load_checkpoint(), "can be loaded: there is none yet"),
        (lambda: beside.load_checkpoint("best"), "has a number for a monitored metric"),
        (lambda: manager.load_checkpoint("epoch_9"), "is called 'epoch_9'; there are: epoch_1, epoch_2"),
    ):
        with pytest.raises(CheckpointNotFoundError, match=what):
            miss()
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "absent").exists()


def test_epoch_path_is_its_end(place):
    """Of a middle and an end the end, of two ends the one committed last."""
    manager = manage(place, retention=KeepAll())
    for step, ended in ((5, False), (10, True), (12, True), (14, False)):
        manager.save_checkpoint(items={"step": step}, epoch=1, step=step, epoch_ended=ended, reason="test")

    assert ["epoch_1_step_5", "epoch_1", "epoch_1_r2", "epoch_1_step_14"] == names(manager)
    assert str(manager.get_checkpoint_path(epoch=1)).endswith("epoch_1_r2")


@pytest.mark.parametrize(
    ("position", "name"),
    [
        ({"epoch": 3}, "epoch_3"),
        ({"epoch": 0, "step": 0}, "epoch_0"),
        ({"epoch": 3, "step": 7, "epoch_ended": False}, "epoch_3_step_7"),
        ({"epoch": 3, "epoch_ended": False}, "epoch_3"),
        ({"step": 7}, "step_7"),
        ({}, "checkpoint"),
    ],
)
def test_names_say_when(place, position, name):
    """The epoch at its end, the step in its middle, and a number behind it when it comes again."""
    manager = CheckpointManager(place, "unet", retention=KeepAll())
    for _ in range(3):
        manager.save_checkpoint(items={"a": 1}, reason="test", **position)

    assert [name, f"{name}_r2", f"{name}_r3"] == names(manager)
    assert [1, 2, 3] == [one.sequence for one in manager.list_checkpoints()]


def test_names_that_something_else_has_are_left_to_it(tmp_path):
    """A directory without a manifest, a file and a link are in nobody's way and come to no harm."""
    root = tmp_path / "unet"
    (root / "epoch_1").mkdir(parents=True)
    (root / "epoch_1" / "notes.txt").write_text("mine")
    (root / "epoch_1_r2").write_text("a file")
    manager = CheckpointManager(tmp_path, "unet")
    manager.save_checkpoint(items={"a": 1}, epoch=1)
    (root / "epoch_2").symlink_to("epoch_1_r3")
    manager.save_checkpoint(items={"a": 2}, epoch=2)

    assert ["epoch_1_r3", "epoch_2_r2"] == names(manager)
    assert ["mine", "a file"] == [(root / "epoch_1" / "notes.txt").read_text(), (root / "epoch_1_r2").read_text()]


def test_names_are_not_tried_for_ever(tmp_path, monkeypatch, leftovers):
    """A storage that refuses every name is told of."""
    monkeypatch.setattr("mlc_core.saver.NAMES_TO_TRY", 2)
    for name in ("epoch_1", "epoch_1_r2"):
        (tmp_path / "unet" / name).mkdir(parents=True)
        (tmp_path / "unet" / name / "notes.txt").touch()

    with pytest.raises(StorageError, match="epoch_1_r2 is there already; a checkpoint is never overwritten"):
        CheckpointManager(tmp_path, "unet").save_checkpoint(items={"a": 1}, epoch=1)
    assert [] == leftovers(tmp_path / "unet")


def test_sequence_grows_over_removals_restarts_and_damage(tmp_path):
    """A number is not given twice, although what had it is gone or cannot be read."""
    manager = CheckpointManager(tmp_path, "unet", retention=KeepLatest())
    for epoch in (1, 2):
        manager.save_checkpoint(items={"a": 1}, epoch=epoch)
    manager.storage.remove("epoch_2")
    manager.save_checkpoint(items={"a": 1}, epoch=3)
    assert [3] == [one.sequence for one in manager.list_checkpoints()]

    (tmp_path / "unet" / "epoch_3" / "manifest.json").write_bytes(b"torn")
    again = CheckpointManager(tmp_path, "unet", retention=KeepAll())
    for epoch in (4, 5, 6):
        again.save_checkpoint(items={"a": 1}, epoch=epoch)
    sequences = [one.sequence for one in again.list_checkpoints()]
    assert [4, 5, 6] == sequences
    assert [4, 5, 6] == [one.epoch for one in again.list_checkpoints()]


def test_forced_saves_never_cost_the_best(place):
    """With `best`, what a signal saves goes beside the best and not in its place."""
    manager = manage(place, "best", 1)
    manager.save_checkpoint(items={"a": 1}, epoch=1, metrics={"score": 0.9})
    for epoch in (2, 3):
        manager.save_checkpoint(items={"a": epoch}, epoch=epoch, metrics={"score": 0.1}, reason="signal")
    assert ["epoch_1", "epoch_3"] == names(manager)

    manager.save_checkpoint(items={"a": 4}, epoch=4, metrics={"score": 0.95})
    assert ["epoch_4"] == names(manager)


def test_strategy_decides_and_says_why(place):
    """None where it is not due; `due` asks the same question by itself, and a reason saves unasked."""
    manager = manage(place, "best")
    assert manager.save_checkpoint(items={"a": 1}, epoch=1) is None
    assert manager.due(epoch=1, metrics={"score": 0.5}) == "best score so far: 0.5"
    assert manager.save_checkpoint(items={"a": 1}, epoch=1, reason="I say so; and so does she") is not None
    assert ("I say so", "and so does she") == manager.list_checkpoints()[0].reasons


def test_items_beside_the_model(place, same):
    """Whatever has a state, and plain data, come back by name; what is None was not given."""
    manager = CheckpointManager(place, "unet", save_optimizer=False, save_scheduler=False)
    manager.save_checkpoint(
        Thing(w=1), Thing(lr=1), Thing(t=1), 1, items={"ema": Thing(decay=0.9), "rng": (3, [1, None]), "note": None}
    )
    found = manager.load_checkpoint()

    assert ("model", "ema", "rng", "note") == found.saved.items
    assert same({"model": {"w": 1}, "ema": {"decay": 0.9}, "rng": (3, [1, None]), "note": None}, dict(found.state))
    with pytest.raises(CheckpointNotFoundError, match="holds no optimizer; it holds model, ema, rng, note"):
        manager.load_checkpoint(optimizer=Thing())


def test_part_of_a_checkpoint(place):
    """A reader opens one item, and says what there is if asked for another."""
    manager = CheckpointManager(place, "unet")
    reader = open_checkpoint(manager.save_checkpoint(Thing(w=1), epoch=1, items={"extra": [1]}))

    assert {"extra": [1]} == reader.load(only=["extra"])
    assert {} == dict(reader.tensors())
    with pytest.raises(CheckpointNotFoundError, match="holds no ema, rng; it holds model, extra"):
        reader.load(only=["ema", "rng"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"items": {"Model": 1}}, ConfigurationError, "item name 'Model' must be a lower-case word"),
        ({"items": {"state": 1}}, ConfigurationError, "item name 'state' must be"),
        ({"items": {"../x": 1}}, ConfigurationError, "item name '../x' must be"),
        ({"model": 1, "items": {"model": 1}}, ConfigurationError, "model is given twice"),
        ({"model": 1, "epoch": -1}, ConfigurationError, "epoch=-1 must count from 0"),
        ({"model": 1, "epoch": 2**60}, ConfigurationError, "must count from 0"),
        ({"model": 1, "epoch": 1.5}, ConfigurationError, "epoch=1.5 is no integer"),
        ({"model": 1, "step": "9"}, ConfigurationError, "step=9 is no integer"),
        ({"model": 1, "metrics": {"loss": "low"}}, ConfigurationError, "metric 'loss' is 'low', which is no number"),
        ({"model": 1, "metrics": {"loss": None}}, ConfigurationError, "metric 'loss' is 'None', which is no number"),
        ({"model": 1, "metrics": {"loss": 10**400}}, ConfigurationError, "which is no number"),
        ({"model": 1, "metrics": {7: 1.0}}, ConfigurationError, "metric 7 is named by a int"),
        ({"model": object()}, StateError, "model is a builtins.object"),
        ({"model": Thing(f=print)}, StateError, "model.f is a builtins.builtin_function"),
        ({"model": 1, "reason": "\ud800"}, StateError, "manifest of epoch_1 cannot be written"),
        ({"model": 1, "metrics": {"\ud800": 1}}, StateError, "metrics holds text that is not valid Unicode"),
    ],
)
def test_what_cannot_be_saved_is_refused_and_leaves_nothing(place, leftovers, arguments, error, message):
    """A typed error that names it, and no trace."""
    manager = CheckpointManager(place, "unet")
    with pytest.raises(error, match=message):
        manager.save_checkpoint(**{"epoch": 1, **arguments})

    assert [] == names(manager)
    if isinstance(place, Path):
        assert [] == [*leftovers(place / "unet"), *place.glob("unet/[!.]*")]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"save_strategy": "bset"}, UnknownNameError, "Did you mean 'best'"),
        ({"save_strategy": "best"}, ConfigurationError, "save_strategy='best' needs a metric, as monitor_metric="),
        ({"save_strategy": AnyOf((AnyOf((Best(),)), Epoch()))}, ConfigurationError, "'best' needs a metric"),
        ({"serializer": "safetensor"}, UnknownNameError, "Did you mean 'safetensors'"),
        ({"monitor_metric": "a"}, ConfigurationError, "monitor_metric='a' and mode=None go together"),
        ({"mode": "min"}, ConfigurationError, "monitor_metric=None and mode='min' go together"),
        ({"monitor_metric": "a", "mode": "up"}, ConfigurationError, "mode='up' for 'a' must be 'min' or 'max'"),
        ({"max_checkpoints": 0}, ConfigurationError, "max_checkpoints=0 must be 1 or more"),
        ({"max_checkpoints": 2, "retention": KeepAll()}, ConfigurationError, "both say what to keep; give one"),
        (
            {"max_checkpoints": 1, "monitor_metric": "a", "mode": "min"},
            ConfigurationError,
            "both the best and the latest",
        ),
        ({"model_name": "../up"}, ConfigurationError, "'../up' cannot be the name"),
        ({"model_name": ""}, ConfigurationError, "'' cannot be the name"),
        ({"checkpoint_dir": "gopher://host/runs"}, UnknownNameError, "Unknown storage 'gopher'.*file, memory"),
        ({"checkpoint_dir": "fiel://runs"}, UnknownNameError, "Did you mean 'file'"),
    ],
    ids=repr,
)
def test_options_that_cannot_be_are_refused_at_once(tmp_path, options, error, message):
    """Before anything is made, with the way out."""
    with pytest.raises(error, match=message):
        CheckpointManager(**{"checkpoint_dir": tmp_path / "a", "model_name": "unet", **options})

    assert not (tmp_path / "a").exists()
    assert issubclass(AmbiguousNameError, LookupError)


def test_default_retention_is_what_max_checkpoints_means(tmp_path):
    """Five, the best among them if one is monitored."""
    assert KeepBestAndLatest(count=5) == CheckpointManager(tmp_path, "unet").retention
    assert KeepBestAndLatest(count=2, metric="score", mode="max") == manage(tmp_path, "best", 2).retention


def test_memory_is_a_place(memory_url):
    """What one manager saves in memory, another one of the same process finds under the same URL."""
    path = CheckpointManager(memory_url, "unet").save_checkpoint(items={"a": (1,)}, epoch=1)

    assert f"{memory_url}/unet/epoch_1" == path
    assert {"a": (1,)} == dict(CheckpointManager(memory_url + "/", "unet").load_checkpoint("latest").state)
    assert {"a": (1,)} == open_checkpoint(path).load()
    assert {"a": (1,)} == open_checkpoint(f"{memory_url}/unet/latest").load()


def test_places_can_be_spelled_in_several_ways(tmp_path, monkeypatch):
    """A path, its text, a relative one, and a URL are one place."""
    monkeypatch.chdir(tmp_path)
    CheckpointManager(tmp_path / "a b", "unet").save_checkpoint(items={"a": 1}, epoch=1)

    for place in ("a b", "a b/", Path("a b"), str(tmp_path / "a b"), (tmp_path / "a b").as_uri()):
        assert ["epoch_1"] == names(CheckpointManager(place, "unet"))
    assert isinstance(open_storage("a b/unet"), LocalStorage)


def test_checkpoint_can_be_named_in_several_ways(tmp_path, monkeypatch):
    """By name, pointer, path, link and URL, from a manager and without one; also a copy, wherever it is called."""
    manager = CheckpointManager(tmp_path, "unet")
    path = manager.save_checkpoint(items={"a": 1}, epoch=1)
    manager.set_pointer("final", path)
    root = tmp_path / "unet"
    monkeypatch.chdir(root)
    here = ["epoch_1", "final", "latest", None, path, str(path), root / "final", root / "latest", path.as_uri()]
    anywhere = [path, "epoch_1", "./epoch_1/", "final", Path("latest"), (root / "latest").as_uri()]
    path.parent.joinpath("my copy (2)").mkdir()
    for file in path.iterdir():
        path.parent.joinpath("my copy (2)", file.name).write_bytes(file.read_bytes())

    for wanted in here:
        assert {"a": 1} == dict(manager.load_checkpoint(wanted).state)
    for wanted in [*anywhere, root / "my copy (2)"]:
        assert {"a": 1} == open_checkpoint(wanted).load()
    assert ["epoch_1"] == names(manager)
    assert {"a": 1} == dict(CheckpointManager(tmp_path / "b", "unet").load_checkpoint(path).state)


@pytest.mark.parametrize("wanted", ["/", "/etc/passwd", "nowhere/at/all", "absent", "memory://nothing/here"])
def test_what_is_no_checkpoint_is_not_found(tmp_path, monkeypatch, wanted):
    """Whatever is there instead."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointNotFoundError, match=r"is not a checkpoint: there is no manifest\.json"):
        open_checkpoint(wanted)


def test_link_that_goes_in_circles_is_not_found(tmp_path):
    """It ends."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises((CheckpointNotFoundError, StorageError)):
        open_checkpoint(tmp_path / "a")


def test_pointers_follow_and_lead_nowhere_never(tmp_path):
    """`best` and `latest` by themselves, `final` until what it led to is removed; others' links stay."""
    manager = manage(tmp_path, "epoch", 2)
    root = tmp_path / "unet"
    for epoch, score in ((1, 0.9), (2, 0.1)):
        manager.save_checkpoint(items={"a": 1}, epoch=epoch, metrics={"score": score})
    manager.set_pointer("final", "latest")
    (root / "notes.txt").write_text("mine")
    (root / "notes").symlink_to("notes.txt")
    (root / "data").symlink_to("/data")
    assert {"best": "epoch_1", "latest": "epoch_2", "final": "epoch_2"} == dict(manager.storage.pointers())

    manager.save_checkpoint(items={"a": 1}, epoch=3, metrics={"score": 0.2})
    assert {"best": "epoch_1", "latest": "epoch_3"} == dict(manager.storage.pointers())
    assert (root / "notes").is_symlink()
    assert (root / "data").is_symlink()
    assert Path("epoch_1") == (root / "best").readlink()
    for pointer in ("best", "latest"):
        with pytest.raises(ConfigurationError, match="is set by the manager itself; choose another name"):
            manager.set_pointer(pointer, "epoch_3")
    with pytest.raises(CheckpointNotFoundError, match="is called 'epoch_2'"):
        manager.set_pointer("final", "epoch_2")
    with pytest.raises(ConfigurationError, match="cannot be the name"):
        manager.set_pointer("../final", "epoch_3")


def test_links_that_cannot_be_made_are_a_warning(tmp_path, monkeypatch):
    """A file system without links takes checkpoints all the same."""

    def refuse(*_):
        msg = "not here"
        raise StorageError(msg)

    monkeypatch.setattr(LocalStorage, "point", refuse)
    manager = CheckpointManager(tmp_path, "unet", max_checkpoints=1)
    with pytest.warns(CheckpointWarning, match=r"the links in .*unet could not be renewed: not here"):
        manager.save_checkpoint(items={"a": 1}, epoch=1)
    with pytest.warns(CheckpointWarning, match="not here"):
        manager.save_checkpoint(items={"a": 2}, epoch=2)

    assert ["epoch_2"] == names(manager)


def test_old_checkpoint_that_cannot_be_removed_is_a_warning(tmp_path, monkeypatch, listener):
    """The save is done; `prune` itself says what failed, after it removed the others."""
    manager = CheckpointManager(tmp_path, "unet", retention=KeepAll())
    for epoch in (1, 2, 3):
        manager.save_checkpoint(items={"a": 1}, epoch=epoch)
    manager = CheckpointManager(tmp_path, "unet", retention=KeepLatest())
    remove = LocalStorage.remove

    def refuse(self, entry):
        if entry == "epoch_1":
            msg = "read-only"
            raise StorageError(msg)
        remove(self, entry)

    monkeypatch.setattr(LocalStorage, "remove", refuse)
    with pytest.warns(
        CheckpointWarning, match="epoch_4 is saved, and what it replaces could not be removed: read-only"
    ):
        assert manager.save_checkpoint(items={"a": 1}, epoch=4) is not None
    assert ["epoch_1", "epoch_4"] == names(manager)
    with pytest.raises(StorageError, match="read-only"):
        manager.prune()
    assert ["epoch_2", "epoch_3"] == [one.name for what, one, _ in listener.heard if what == "removed"]


def test_plan_is_a_dry_run(place):
    """It says what `prune` would do and does nothing."""
    manager = CheckpointManager(place, "unet", retention=KeepAll())
    for epoch in (1, 2):
        manager.save_checkpoint(items={"a": 1}, epoch=epoch)
    manager = CheckpointManager(place, "unet", retention=KeepLatest())
    plan = manager.plan()

    assert ["epoch_1", "epoch_2"] == names(manager)
    assert [False, True] == [one.keep for one in plan]
    assert plan == manager.prune()
    assert ["epoch_2"] == names(manager)


# ---------------------------------------------------------------------- loading into objects


def test_misfit_names_what_does_not_fit_and_changes_nothing(place):
    """Missing and unexpected names, the first few of many."""
    manager = CheckpointManager(place, "unet")
    manager.save_checkpoint(Module(a=1, b=2), Thing(lr=1), epoch=1)
    model, optimizer = Module(b=0, **{f"c{number}": 0 for number in range(8)}), Thing(lr=0)

    with pytest.raises(MismatchError, match="8 missing: c0, c1, c2, c3, c4, … and 3 more; 1 unexpected: a"):
        manager.load_checkpoint(model=model, optimizer=optimizer)
    assert (0, 0) == (model.state["b"], optimizer.state["lr"])
    fit = manager.load_checkpoint(model=model, strict=False).fit
    assert (("a",), 8, 2) == (fit.unexpected, len(fit.missing), model.state["b"])


def test_state_that_is_no_model_is_a_mismatch(place):
    """Not an AttributeError."""
    manager = CheckpointManager(place, "unet")
    manager.save_checkpoint([1, 2], epoch=1)

    with pytest.raises(MismatchError, match="holds a list as its model"):
        manager.load_checkpoint(model=Module())


def test_object_that_does_not_take_its_state_is_a_mismatch(place):
    """It is said; what took its state before it has its old one again."""

    class Stubborn(Thing):
        def load_state_dict(self, state):
            """Fail."""
            return {}["momentum"]

    manager = CheckpointManager(place, "unet")
    manager.save_checkpoint(Module(a=1), Thing(b=2), Thing(c=3), epoch=1)
    model, optimizer = Module(a=0), Thing(b=0)

    with pytest.raises(
        MismatchError,
        match=r"epoch_1: the scheduler did not take its state \(KeyError: 'momentum'\); scheduler may hold a",
    ):
        manager.load_checkpoint(None, model, optimizer, Stubborn(c=0))
    assert ({"a": 0}, {"b": 0}) == (model.state, optimizer.state)


def test_state_of_another_scheduler_is_refused_first(place):
    """Nothing is loaded when the last of three does not fit."""
    manager = CheckpointManager(place, "unet")
    manager.save_checkpoint(Module(a=1), Thing(b=2), Thing(step_size=3, last_epoch=1), epoch=1)
    model, optimizer = Module(a=0), Thing(b=0)

    with pytest.raises(MismatchError, match="the state of another scheduler: one with step_size; this one has t_max"):
        manager.load_checkpoint(None, model, optimizer, Thing(t_max=1, last_epoch=0))
    assert ({"a": 0}, {"b": 0}) == (model.state, optimizer.state)


def test_state_of_any_kind_is_for_the_object_to_judge(place):
    """What is no mapping is compared with nothing."""

    class Listed(Thing):
        def state_dict(self):
            """Return a list."""
            return [1, 2]

        def load_state_dict(self, state):
            """Take it."""
            self.state = state

    manager = CheckpointManager(place, "unet")
    manager.save_checkpoint(scheduler=Listed(), epoch=1)
    scheduler = Listed()
    manager.load_checkpoint(scheduler=scheduler)

    assert [1, 2] == scheduler.state


# ---------------------------------------------------------------------- strategies with a memory


class Counting:
    """Every second moment."""

    def __init__(self, seen=0):
        self.seen = seen

    def should_save(self, _):
        """Count."""
        self.seen += 1
        return "second" if self.seen % 2 == 0 else None

    def state_dict(self):
        """Remember."""
        return {"seen": self.seen}

    def load_state_dict(self, state):
        """Go on."""
        self.seen = state["seen"]


def test_strategy_goes_on_where_it_was_at_the_latest_checkpoint(place):
    """A restart asks it as if there had been none."""
    manager = CheckpointManager(place, "unet", Counting())
    for epoch in range(1, 6):
        manager.save_checkpoint(items={"a": 1}, epoch=epoch)
    resumed = CheckpointManager(place, "unet", Counting())

    assert ["epoch_2", "epoch_4"] == names(manager)
    assert 4 == resumed.strategy.seen


def test_state_that_the_strategy_does_not_take_is_a_warning(place):
    """It begins anew and says so; a directory is never made unusable by it."""
    CheckpointManager(place, "unet", Counting("many")).save_checkpoint(items={"a": 1}, epoch=1, reason="test")

    class Strict(Counting):
        def load_state_dict(self, state):
            """Take numbers only."""
            self.seen = int(state["seen"])

    Strict.__module__, Strict.__qualname__ = Counting.__module__, Counting.__qualname__
    with pytest.warns(
        CheckpointWarning, match=r"begins anew, because it did not take its state from epoch_1 \(ValueError"
    ):
        manager = CheckpointManager(place, "unet", Strict())
    assert 0 == manager.strategy.seen


def test_one_manager_may_be_used_by_several_threads(place):
    """Every save of every thread is there once, with a number of its own."""
    manager = CheckpointManager(place, "unet", retention=KeepAll())
    failures = []

    def work(thread):
        try:
            for epoch in range(4):
                manager.save_checkpoint(items={"who": [thread, epoch]}, epoch=epoch)
                manager.list_checkpoints()
                manager.load_checkpoint("latest")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    saved = manager.list_checkpoints()

    assert [] == failures
    assert list(range(1, 17)) == [one.sequence for one in saved]
    assert sorted([thread, epoch] for thread in range(4) for epoch in range(4)) == sorted(
        manager.load_checkpoint(one.name).state["who"] for one in saved
    )


def test_loading_warns_only_when_something_was_passed_over(place):
    """A sound directory is silent."""
    manager = manage(place)
    for epoch in (1, 2):
        manager.save_checkpoint(items={"a": epoch}, epoch=epoch, metrics={"score": -epoch})

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [1, 2, 1] == [manager.load_checkpoint(one).state["a"] for one in (None, "latest", "best")]
    assert () == manager.load_checkpoint().passed_over


def test_nothing_valid_left_is_corrupt(tmp_path):
    """The error has every cause."""
    manager = CheckpointManager(tmp_path, "unet")
    for epoch in (1, 2):
        (manager.save_checkpoint(items={"a": epoch}, epoch=epoch) / "state.json").unlink()
    with pytest.raises(
        CorruptCheckpointError, match=r"epoch_2/state\.json is missing.*; .*epoch_1/state\.json is missing"
    ):
        manager.load_checkpoint()

    for epoch in (1, 2):
        (tmp_path / "unet" / f"epoch_{epoch}" / "manifest.json").write_text("{}")
    with pytest.raises(
        CorruptCheckpointError, match=r"can be loaded: there is none that is whole\n +epoch_\d is damaged"
    ):
        manager.load_checkpoint()
    with pytest.raises(CorruptCheckpointError, match="cannot be believed: its digest does not match"):
        manager.load_checkpoint("epoch_1")
