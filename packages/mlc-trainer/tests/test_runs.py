"""Runs as they lie on disk."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_trainer import ExperimentManager, ResumeWarning, RunError, create_training_manager
from mlc_trainer.directory import RunDirectory
from mlc_trainer.runs import direction, find_runs, names_of, read_environment, read_run
from mlc_trainer.settings import different_settings, settings_of

JOURNAL = "metrics.jsonl"


@pytest.fixture
def run_dir(tmp_path):
    """Where the run is going to be."""
    return tmp_path / "run"


def lines_of(run_dir):
    """Return the lines of the journal, as data."""
    return [json.loads(line) for line in (run_dir / JOURNAL).read_text().splitlines()]


def rewrite(run_dir, lines):
    """Let the journal have *lines*."""
    (run_dir / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))


# ---------------------------------------------------------------------- one run


def test_complete_run(trained):
    """Its state, epochs, metrics, checkpoints and times."""
    run = read_run(trained)
    metrics = {line["epoch"]: line["val_loss"] for line in lines_of(trained) if line["event"] == "epoch"}
    best = min(metrics, key=metrics.get)

    assert ("finished", "model", 3, 3, ()) == (run.state, run.model_name, run.done, run.planned, tuple(run.problems))
    assert (trained / "run_id").read_text().strip() == run.id
    assert (best, 3) == (run.best.number, run.last.number)
    assert metrics[best] == run.best.metrics["val_loss"]
    assert {"best": f"epoch_{best}", "latest": "epoch_3", "final": "epoch_3"} == run.links
    assert ["epoch_1", "epoch_2", "epoch_3"] == [one.name for one in run.checkpoints]
    assert run.timeline.seconds >= sum(one.seconds for one in run.timeline.epochs) > 0
    assert {"python", "torch", "device"} <= read_environment(run).keys()


def test_running_as_long_as_the_directory_is_held(trained_copy):
    """Whatever the journal says."""
    assert "finished" == read_run(trained_copy).state
    with RunDirectory(trained_copy).busy():
        assert "running" == read_run(trained_copy).state
    assert "finished" == read_run(trained_copy).state


def test_looking_keeps_nobody_from_training(trained_copy):
    """Who looks holds the directory for a moment, and who trains waits that long."""
    descriptor = os.open(trained_copy, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)

    def let_go():
        time.sleep(0.03)
        os.close(descriptor)

    thread = threading.Thread(target=let_go)
    thread.start()
    with RunDirectory(trained_copy).busy():
        thread.join()


def test_stopped_and_killed(configure, run_dir, killer, killed):
    """One says by what, the other says nothing."""
    with pytest.raises(killed):
        ExperimentManager(configure(), run_dir, observers=[killer(7)]).run()
    stopped = read_run(run_dir)
    rewrite(run_dir, lines_of(run_dir)[:-1])
    run = read_run(run_dir)

    assert ("stopped", "Killed: ", 2) == (stopped.state, stopped.timeline.error, stopped.done)
    assert ("killed", None, 2) == (run.state, run.timeline.error, run.done)


def test_resumed_run_tells_its_restarts(configure, run_dir, killer, killed):
    """Where, from what, and what was not as it was."""
    with pytest.raises(killed):
        ExperimentManager(configure(), run_dir, observers=[killer(4)]).run()
    with pytest.warns(ResumeWarning):
        ExperimentManager(configure(training={"seed": 5}), run_dir).resume_training()
    run = read_run(run_dir)
    (restart,) = run.timeline.restarts

    assert "finished" == run.state
    assert (2, 0, 3, 1.0, "epoch_1") == (restart.epoch, restart.batch, restart.step, restart.place, restart.source)
    assert ["training.seed was 0, is 5"] == restart.differences


def test_run_that_has_not_begun(configure, run_dir):
    """There is nothing, and that is said by empty places."""
    RunDirectory(run_dir).write(configure(), "1")
    run = read_run(run_dir)

    assert ("killed", 0, None, None, ()) == (run.state, run.done, run.best, run.last, tuple(run.checkpoints))
    assert {} == read_environment(run)


def test_loop_of_somebodys_own(tmp_path):
    """It has no configuration, and whether it runs cannot be told."""
    manager = create_training_manager(tmp_path / "own", "unet")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / JOURNAL).write_text('{"event": "started", "epoch": 0, "step": 0}\n')
    run = read_run(manager.model_dir)

    assert ("unfinished", None, None, ()) == (run.state, run.config, run.planned, tuple(run.problems))


# ---------------------------------------------------------------------- damage


def spoil(name, content):
    """Return what puts *content* into the file *name* of a run."""
    return lambda run_dir: (run_dir / name).write_bytes(content)


def rename_model(name):
    """Return what gives the model of a run another *name*, as JSON spells it."""

    def rename(run_dir):
        text = (run_dir / "config.json").read_text()
        (run_dir / "config.json").write_text(text.replace('"name": "model"', f'"name": "{name}"'))

    return rename


@pytest.mark.parametrize(
    ("damage", "state", "problem"),
    [
        (spoil("config.json", b"{"), "damaged", "config.json is not JSON"),
        (spoil("config.json", b'{"model": {"nmae": 1}}'), "damaged", "unknown key 'model.nmae'"),
        (rename_model("\\ud800"), "finished", "surrogates not allowed"),
        (rename_model("\\u0000"), "finished", "null byte"),
        (lambda path: (path / "config.json").unlink(), "damaged", "it has no config.json"),
        (spoil(JOURNAL, b"{\n"), "damaged", "line 1 is no line of a journal"),
        (lambda path: ((path / JOURNAL).unlink(), (path / JOURNAL).mkdir()), "damaged", "directory"),
        (spoil("run_id", b"\xff"), "finished", None),
        (lambda path: (path / JOURNAL).unlink(), "killed", None),
        (spoil("checkpoints/model/epoch_2/manifest.json", b"{}"), "finished", "epoch_2: "),
        (spoil("checkpoints/model/epoch_3/state.json", b"\0"), "finished", None),
    ],
)
def test_damaged_run_is_listed_with_the_reason(trained_copy, damage, state, problem):
    """And everything else about it is told all the same."""
    damage(trained_copy)
    (run,) = find_runs(trained_copy.parent)
    read_environment(run)

    assert state == run.state
    assert [] == run.problems if problem is None else any(problem in one for one in run.problems)
    assert len(run.checkpoints) >= 2 or run.model_name in {"\ud800", "\0"}


@given(
    name=st.sampled_from(["config.json", "run_id", JOURNAL, "checkpoints/model/epoch_3/manifest.json"]), data=st.data()
)
def test_no_damage_makes_it_fail(trained, tmp_path_factory, name, data):
    """Whatever is in a file, cut off anywhere."""
    run_dir = tmp_path_factory.mktemp("damage") / "run"
    for one in ("config.json", "run_id", JOURNAL, "checkpoints/model/epoch_3/manifest.json"):
        (run_dir / one).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / one).write_bytes((trained / one).read_bytes())
    whole = (run_dir / name).read_bytes()
    start, content = data.draw(st.integers(0, len(whole))), data.draw(st.binary(max_size=8))
    (run_dir / name).write_bytes(whole[:start] + content)
    (run,) = find_runs(run_dir)

    assert run.state in {"finished", "killed", "damaged", "stopped"}


# ---------------------------------------------------------------------- several runs


def test_runs_are_found_below_a_directory(trained_copy, tmp_path):
    """Not below each other, not in hidden places, and a link to one is one."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    trained_copy.rename(tmp_path / "a" / "b" / "run")
    (tmp_path / "a" / "linked").symlink_to(tmp_path / "a" / "b" / "run")
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "a" / "b" / "run" / "inner").mkdir()
    (tmp_path / "a" / "b" / "run" / "inner" / JOURNAL).touch()
    (tmp_path / ".hidden" / JOURNAL).touch()

    assert ["a/b/run", "a/linked"] == [str(run.path.relative_to(tmp_path)) for run in find_runs(tmp_path)]


def test_what_is_no_run_is_said(trained_copy, tmp_path):
    """With where there are some."""
    with pytest.raises(RunError, match="nowhere is not a directory"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(RunError, match=rf"not the directory of a run.*; there is one at {trained_copy}"):
        read_run(tmp_path)
    with pytest.raises(RunError, match=r"it has neither run_id nor metrics\.jsonl nor checkpoints$"):
        read_run(tmp_path / "nowhere")


def test_two_of_one_name_are_called_by_their_paths(trained, trained_copy):
    """Or nobody could tell them apart."""
    one, other = read_run(trained), read_run(trained_copy)

    assert ["run", "copy"] == names_of([one, other])
    assert [str(trained), str(trained)] == names_of([one, one])


@pytest.mark.parametrize(
    ("metric", "mode"), [("val_loss", "min"), ("train_bce_loss", "min"), ("val_dice_blob", "max"), ("val_volume", None)]
)
def test_which_way_is_better(trained, metric, mode):
    """As it is monitored, or as its name says; or it is not known."""
    assert mode == direction(metric, [read_run(trained)])


def test_what_is_monitored_says_which_way_for_its_family(trained):
    """`val_volume_left` is as `val_volume`."""
    run = read_run(trained)
    other = attrs.evolve(run, monitor=attrs.evolve(run.monitor, metric="val_volume", mode="max"))

    assert "max" == direction("val_volume_left", [run, other])


# ---------------------------------------------------------------------- settings


def test_chosen_settings_are_those_that_are_not_the_defaults(configure):
    """And those that somebody must choose."""
    config = configure(optimizer={"options": {"lr": 0.1, "deep": {"er": 1}}}, training={"seed": 3})
    chosen = {one.name: one.value for one in settings_of(config) if one.chosen}

    assert {"model.factory", "optimizer.options.lr", "optimizer.options.deep.er", "training.seed"} <= chosen.keys()
    assert not {"model.name", "optimizer.name", "data.shuffle", "scheduler", "model.options"} & chosen.keys()


def test_settings_that_differ(configure):
    """Only those, and what is not set is None."""
    one, other = configure(), configure(optimizer={"options": {"lr": 0.1}}, training={"seed": 3})

    assert {"training.seed": [0, 3], "optimizer.options.lr": [None, 0.1]} == different_settings([one, other])
    assert {} == different_settings([one, one])


def test_looking_needs_no_torch_and_no_matplotlib(trained, tmp_path):
    """All but the picture."""
    words = [["ls", str(trained)], ["show", str(trained)], ["compare", str(trained), str(trained)]]
    words.append(["report", str(trained), "--output", str(tmp_path / "r.html")])
    code = (
        "import sys\nfor name in ('torch', 'numpy', 'matplotlib'): sys.modules[name] = None\n"
        f"from mlc_trainer.commands.runs import runs\nfor words in {words!r}: runs(words, standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    assert (tmp_path / "r.html").is_file()
