"""`mlc runs`."""

import re
import time
from pathlib import Path

import pytest

from mlc_trainer import ExperimentManager, read_journal


@pytest.fixture(scope="module")
def several(tmp_path_factory, configure):
    """Return a directory with two runs and a damaged one."""
    root = tmp_path_factory.mktemp("several")
    ExperimentManager(configure(training={"num_epochs": 2}), root / "one").run()
    ExperimentManager(configure(optimizer={"options": {"lr": 0.02}}), root / "other").run()
    (root / "broken").mkdir()
    (root / "broken" / "run_id").write_text("7\n")
    return root


def test_ls_lists_the_newest_first(mlc, several):
    """With state, epochs, the best metric, and what is damaged below."""
    done = mlc("runs", "ls", several)
    rows = [line.split() for line in done.out.splitlines() if re.match(r"\s+(one|other|broken)\s", line)]

    assert (0, "") == (done.code, done.err)
    assert {"one": ["finished", "2/2"], "other": ["finished", "3/3"], "broken": ["damaged", "0"]} == {
        row[0]: row[1:3] for row in rows
    }
    assert ["other", "one"] == [row[0] for row in rows if row[0] != "broken"]
    assert f"  broken: {several}/broken is not the directory of a run: it has no config.json" in done.out


def test_ls_says_json(mlc, several):
    """Everything that is known without looking into a checkpoint."""
    found = {one["path"]: one for one in mlc("runs", "ls", several, "--json").json}
    run = found[str(several / "one")]

    assert 3 == len(found)
    assert ("finished", 2, 2, "model", None) == tuple(
        run[name] for name in ("state", "epochs", "planned", "model", "error")
    )
    assert {"metric": "val_loss", "mode": "min"} == run["monitor"]
    assert run["best"]["metrics"]["val_loss"] <= run["last"]["metrics"]["val_loss"]
    assert ["epoch_1", "epoch_2"] == run["checkpoints"]


@pytest.mark.parametrize(("metric", "sign"), [("val_dice", -1), ("val_loss", 1)])
def test_ls_sorts_by_a_metric(mlc, several, metric, sign):
    """The best first, those without it last."""
    found = mlc("runs", "ls", several, "--sort", metric, "--json").json
    pick = min if sign == 1 else max
    epochs = [read_journal(Path(one["path"]) / "metrics.jsonl") for one in found]
    values = [pick((line[metric] for line in lines if line["event"] == "epoch"), default=None) for lines in epochs]

    assert values[-1] is None
    assert sorted(values[:-1], key=lambda value: sign * value) == values[:-1]
    assert f"{metric} " in mlc("runs", "ls", several, "--sort", metric).out


def test_ls_says_what_cannot_be_sorted(mlc, several, tmp_path):
    """And what is close."""
    unknown = mlc("runs", "ls", several, "--sort", "val_los")
    undecided = mlc("runs", "ls", several, "--sort", "lr")
    alone = mlc("runs", "ls", several, "--mode", "min")

    assert "'val_los' was not measured in any of the runs. Did you mean 'val_loss'?" in unknown.err
    assert "whether less or more of lr is better is not known; add --mode min or --mode max" in undecided.err
    assert 0 == mlc("runs", "ls", several, "--sort", "lr", "--mode", "max").code
    assert "--mode says which way to --sort; give both" in alone.err
    assert [1, 1, 2] == [unknown.code, undecided.code, alone.code]
    assert "is not a directory; name a run, or a directory of runs" in mlc("runs", "ls", tmp_path / "nowhere").err


def test_ls_where_there_is_nothing(mlc, tmp_path, monkeypatch):
    """Here, or in `runs` where that is."""
    monkeypatch.chdir(tmp_path)
    empty = mlc("runs", "ls")
    (tmp_path / "runs").mkdir()

    assert "no runs in .; `mlc train CONFIG` makes one\n" == empty.out
    assert "no runs in runs; " in mlc("runs", "ls").out
    assert [] == mlc("runs", "ls", "--json").json


def test_show_tells_one_run(mlc, several):
    """What was chosen, where it ran, how it went, what it left."""
    done = mlc("runs", "show", several / "other")
    data = mlc("runs", "show", several / "other", "--json").json

    assert (0, "") == (done.code, done.err)
    assert f"run      {several / 'other'}: finished" in done.out
    assert re.search(r"optimizer\.options\.lr +0\.02", done.out)
    assert "drop_last" not in done.out
    assert all(title in done.out for title in ("What was chosen", "Where it ran", "Metrics", "Checkpoints", "torch"))
    assert 0.02 == data["chosen"]["optimizer.options.lr"]
    assert False is data["config"]["data"]["drop_last"]
    assert ["final", "latest"] == [one for one in data["checkpoints"][-1]["links"] if one != "best"]
    assert "torch" in data["environment"]


def test_show_tells_what_stopped_it_and_where_it_went_on(mlc, configure, tmp_path, killer, killed):
    """The error until it is resumed, and the restart after that."""
    with pytest.raises(killed):
        ExperimentManager(configure(), tmp_path / "run", observers=[killer(4)]).run()
    stopped = mlc("runs", "show", tmp_path / "run").out
    ExperimentManager.from_run(tmp_path / "run").resume_training()
    done = mlc("runs", "show", tmp_path / "run").out

    assert "run: stopped" in stopped
    assert "error    Killed" in stopped
    assert "resumed  from epoch_1 in epoch 2 (first batch), step 3, 20" in done
    assert "error" not in done


def test_compare_says_what_differs_and_marks_the_best(mlc, several):
    """Only what differs; the best of each metric."""
    done = mlc("runs", "compare", several / "one", several / "other")
    data = mlc("runs", "compare", several / "one", several / "other", "--json").json
    marked = [line.split() for line in done.out.splitlines() if "★" in line and "(" not in line]

    assert 0 == done.code
    assert re.search(r"optimizer\.options\.lr +not set +0\.02", done.out)
    assert "training.seed" not in done.out
    assert {"val_loss", "val_dice"} <= {row[0] for row in marked}
    assert "lr" not in {row[0] for row in marked}
    assert {str(several / "one"): 2, str(several / "other"): 3} == data["settings"]["training.num_epochs"]
    assert {"training.num_epochs", "optimizer.options.lr"} == data["settings"].keys()


def test_compare_with_what_has_no_configuration(mlc, several):
    """It is said, and the rest is compared."""
    done = mlc("runs", "compare", several / "one", several / "broken")

    assert 0 == done.code
    assert "broken has no configuration that can be read: its settings are not compared" in done.out
    assert "no setting differs" in done.out
    assert "name 2 runs or more" in mlc("runs", "compare", several / "one").err


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_plot_draws_several_runs(mlc, several, tmp_path, suffix, start):
    """In one picture, which says their names."""
    output = tmp_path / f"curves{suffix}"
    done = mlc("runs", "plot", several / "one", several / "other", "--metric", "val_dice", "--output", output)

    assert (0, "") == (done.code, done.err)
    assert f"wrote {output}: val_dice of one, other" in done.out
    assert output.read_bytes().startswith(start)


def test_picture_lies_in_the_run_unless_said(trained_copy, mlc):
    """Called as what is drawn."""
    done = mlc("runs", "plot", trained_copy)

    assert f"wrote {trained_copy}/val_loss.png: val_loss of copy" in done.out
    assert (trained_copy / "val_loss.png").is_file()


def test_plot_marks_restarts(mlc, several, trained_copy, tmp_path):
    """With a line; what the names hold is not read as a formula."""
    ExperimentManager.from_run(trained_copy).resume_training(1)
    run = trained_copy.rename(trained_copy.with_name("_run $\\alpha_"))
    done = mlc("runs", "plot", run, "--output", tmp_path / "a.svg")
    mlc("runs", "plot", several / "one", "--output", tmp_path / "b.svg")

    assert (0, "") == (done.code, done.err)
    assert "<!-- resumed -->" in (tmp_path / "a.svg").read_text()
    assert "<!-- resumed -->" not in (tmp_path / "b.svg").read_text()


def test_plot_says_what_cannot_be_drawn(mlc, several, tmp_path):
    """Before it draws."""
    run, picture = several / "one", tmp_path / "a.png"
    unknown = mlc("runs", "plot", run, "--metric", "val_dise", "--output", picture)
    unfit = mlc("runs", "plot", run, "--output", tmp_path / "a.txt")

    assert "'val_dise' was not measured in the run. Did you mean 'val_dice'?" in unknown.err
    assert "a.txt must end in .png or .svg" in unfit.err
    assert [1, 2, False] == [unknown.code, unfit.code, picture.exists()]


def test_report_is_written_beside_the_run_or_where_it_is_asked_for(mlc, trained_copy, tmp_path):
    """And says where."""
    beside, elsewhere = trained_copy / "report.html", tmp_path / "new" / "r.html"

    assert f"wrote {beside}\n" == mlc("runs", "report", trained_copy).out
    assert f"wrote {elsewhere}\n" == mlc("runs", "report", trained_copy, "--output", elsewhere).out
    assert beside.read_text() == elsewhere.read_text()


@pytest.mark.parametrize("name", ["show", "report"])
def test_what_is_no_run_is_one_line(mlc, tmp_path, name):
    """On standard error."""
    done = mlc("runs", name, tmp_path / "nowhere")

    assert 1 == done.code
    assert done.err.startswith(f"Error: {tmp_path}/nowhere is not the directory of a run: it has neither run_id nor ")


@pytest.mark.parametrize("name", ["ls", "show", "compare", "plot", "report"])
def test_every_command_teaches_with_an_example(mlc, name):
    """At the end of its help."""
    done = mlc("runs", name, "--help")

    assert 0 == done.code
    assert re.search(rf"Examples?:\n +mlc runs {name} ", done.out)
    assert f"  {name} " in mlc("runs", "--help").out


def test_run_of_another_process_runs_until_that_is_killed(mlc, start, config_file, tmp_path):
    """With SIGKILL, of which nobody could write anything down."""
    run_dir = tmp_path / "run"
    process = start("train", config_file(training={"num_epochs": 5000}), "--run-dir", run_dir)
    try:
        while process.poll() is None and not (run_dir / "checkpoints/model/epoch_1").exists():
            time.sleep(0.05)
        (running,) = mlc("runs", "ls", run_dir, "--json").json
    finally:
        process.kill()
        process.communicate()
    (run,) = mlc("runs", "ls", run_dir, "--json").json

    assert ("running", "killed") == (running["state"], run["state"])
    assert 5000 == run["planned"] > run["epochs"] >= running["epochs"] >= 1
