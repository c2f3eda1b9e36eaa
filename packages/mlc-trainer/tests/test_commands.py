"""`mlc train`, `resume`, `evaluate` and `infer`."""

import json
import textwrap

import numpy as np
import pytest
import torch

from mlc_core import open_checkpoint
from mlc_trainer import ExperimentManager, ModelManager, read_journal


@pytest.fixture
def run_dir(tmp_path):
    """Where the run is going to be."""
    return tmp_path / "run"


def test_train_trains_and_says_where_everything_lies(mlc, config_file, run_dir):
    """Lines for a pipe, a table, and the paths."""
    done = mlc("train", config_file(), "--run-dir", run_dir)

    assert (0, "") == (done.code, done.err)
    assert f"training model for 3 epochs of 3 steps: {run_dir}" in done.out
    assert "epoch 3/3  val_dice " in done.out
    assert "After the last epoch" in done.out
    assert f"latest  {run_dir}/checkpoints/model/epoch_3" in done.out
    assert f"journal {run_dir}/metrics.jsonl" in done.out


def test_train_says_json_and_nothing_else(mlc, config_file, run_dir):
    """Settings from outside are in it."""
    done = mlc("train", config_file(), "--run-dir", run_dir, "--set", "training.num_epochs=1", "--json")
    best = run_dir / "checkpoints/model/epoch_1"

    assert {"run_dir": str(run_dir), "best": str(best), "latest": str(best)} == {
        name: done.json[name] for name in ("run_dir", "best", "latest")
    }
    assert dict(open_checkpoint(best).saved.metrics) == done.json["metrics"]
    assert 1 == json.loads((run_dir / "config.json").read_text())["training"]["num_epochs"]


def test_run_lies_beside_where_one_stands(mlc, config_file, tmp_path, monkeypatch):
    """Called as the configuration is."""
    monkeypatch.chdir(tmp_path)
    mlc("train", config_file("small.json"), "--set", "training.num_epochs=1")

    assert (tmp_path / "runs/small/config.json").is_file()


def test_module_in_the_current_directory_is_found(mlc, config_file, tmp_path, monkeypatch, run_dir):
    """As with `python -m`, and from nowhere else."""
    module = tmp_path / "here" / "my_own_models.py"
    module.parent.mkdir()
    module.write_text("from tiny import Net\n\n\nclass Mine(Net):\n    pass\n")
    file = config_file(model={"factory": "my_own_models:Mine"}, training={"num_epochs": 1})
    failed = mlc("train", file, "--run-dir", run_dir)
    monkeypatch.chdir(module.parent)
    done = mlc("train", file, "--run-dir", run_dir)

    assert 1 == failed.code
    assert "cannot import 'my_own_models'" in failed.err
    assert 0 == done.code


def test_resume_goes_on(mlc, configure, run_dir, killer, killed):
    """It says from where."""
    with pytest.raises(killed):
        ExperimentManager(configure(), run_dir, observers=[killer(4)]).run()
    done = mlc("resume", run_dir)

    assert (0, "") == (done.code, done.err)
    assert "resuming model from epoch_1: epoch 2, batch 0 of 3, step 3" in done.out
    assert "epoch 3/3" in done.out


def test_resume_trains_more_epochs(mlc, trained_copy):
    """So many more."""
    done = mlc("resume", trained_copy, "--epochs", 2, "--json")

    assert 0 == done.code
    assert done.json["latest"].endswith("epoch_5")
    assert 2 == mlc("resume", trained_copy, "--epochs", 0).code


def test_resume_says_what_is_not_as_it_was(mlc, trained_copy):
    """In one line on standard error, and the run goes on."""
    file = trained_copy / "config.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 5'))
    done = mlc("resume", trained_copy, "--epochs", 1)
    (line,) = done.err.splitlines()

    assert 0 == done.code
    assert line.startswith("Warning: going on from epoch_3, and the rest need not be equal to the bit: ")
    assert line.endswith(": training.seed was 0, is 5")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("resume", "nowhere"), "Error: nowhere is not the directory of a run: it has no config.json"),
        (("evaluate", "nowhere"), "Error: nowhere is not the directory of a run: it has no config.json"),
        (("infer", "nowhere", "--output", "y.npy"), "Error: nowhere is not the directory of a run"),
        (("evaluate", "--checkpoint", "nowhere"), "Error: nowhere is not a checkpoint: there is no manifest.json"),
        (("evaluate",), "name either RUN_DIR, for its best checkpoint, or --checkpoint PATH"),
        (("evaluate", "a", "--checkpoint", "b"), "name either RUN_DIR, for its best checkpoint, or --checkpoint PATH"),
        (("infer", "a"), "Missing option '--output'"),
        (("train", "nowhere.toml"), "File 'nowhere.toml' does not exist"),
    ],
)
def test_what_cannot_be_done_is_said(mlc, tmp_path, monkeypatch, words, message):
    """On standard error, with an exit status that is not 0."""
    monkeypatch.chdir(tmp_path)
    done = mlc(*words)

    assert 0 != done.code
    assert message in done.err
    assert "" == done.out


def test_refusals_of_train(mlc, config_file, trained, run_dir):
    """A used directory, an unknown key, a class that is none: one line each, and nothing is written."""
    used = mlc("train", config_file(), "--run-dir", trained)
    unknown = mlc("train", config_file(), "--run-dir", run_dir, "--set", "training.sede=1")
    wrong = mlc("train", config_file(model={"factory": "os:system"}), "--run-dir", run_dir)

    assert [1, 1, 1] == [used.code, unknown.code, wrong.code]
    assert f"Error: {trained} holds checkpoints already; `mlc resume {trained}` goes on from the latest" in used.err
    assert "unknown key 'training.sede'. Did you mean 'seed'?" in unknown.err
    assert "Error: 'os:system' is not a subclass of torch.nn" in wrong.err
    assert not run_dir.exists()


def test_resume_before_the_first_checkpoint_names_the_directory(mlc, configure, run_dir):
    """And training can begin anew there."""
    experiment = ExperimentManager(configure(), run_dir).setup()
    experiment.directory.write(experiment.config, "1")
    done = mlc("resume", run_dir)

    assert 1 == done.code
    assert f"no checkpoint in {run_dir}/checkpoints/model" in done.err
    assert done.err.startswith("Error: ")


def test_evaluate_says_which_checkpoint_and_what_it_is_worth(mlc, trained):
    """The best one, its epoch, and the numbers of its manifest."""
    best = open_checkpoint(trained / "checkpoints/model/best")
    done = mlc("evaluate", trained, "--device", "cpu")
    data = mlc("evaluate", trained, "--json").json

    assert f"loaded the best checkpoint {best.location} (epoch {best.saved.epoch}, step {best.saved.step}, " in done.out
    assert "On validation data" in done.out
    assert {name: one for name, one in best.saved.metrics.items() if name.startswith("val_")} == data["metrics"]
    assert (str(best.location), best.saved.epoch, best.saved.step) == (data["checkpoint"], data["epoch"], data["step"])


def test_evaluate_one_checkpoint(mlc, trained):
    """By its path."""
    path = trained / "checkpoints/model/epoch_1"
    done = mlc("evaluate", "--checkpoint", path)

    assert f"loaded the checkpoint {path} (epoch 1, step 3, val_dice " in done.out
    assert 1 == mlc("evaluate", "--checkpoint", path, "--json").json["epoch"]


def test_evaluate_where_nothing_was_measured_yet(mlc, configure, run_dir, killer, killed):
    """The latest is taken, and that is said."""
    table = {"save_strategy": "interval", "strategy_options": {"every": 1, "unit": "steps"}}
    with pytest.raises(killed):
        ExperimentManager(configure(checkpoints=table), run_dir, observers=[killer(2, "checkpoint_saved")]).run()
    done = mlc("evaluate", run_dir)

    assert 0 == done.code
    assert "loaded the latest checkpoint, since none was measured, " in done.out
    assert "epoch_1_step_2 (epoch 1, step 2)" in done.out


def test_evaluate_a_corrupt_checkpoint(mlc, trained_copy):
    """Is an error that names the file."""
    file = trained_copy / "checkpoints/model/best/model.safetensors"
    file.write_bytes(b"\0" * file.stat().st_size)
    done = mlc("evaluate", trained_copy)

    assert 1 == done.code
    assert "model.safetensors was changed after it was committed" in done.err


@pytest.mark.parametrize(
    ("activation", "shape", "dtype"),
    [("none", (3, 1, 8, 8), "float32"), ("sigmoid", (3, 1, 8, 8), "float32"), ("argmax", (3, 8, 8), "int64")],
)
def test_infer_predicts_the_validation_data(mlc, trained, tmp_path, activation, shape, dtype):
    """With the best model, where no input is named."""
    output = tmp_path / "y.npy"
    done = mlc("infer", trained, "--output", output, "--activation", activation)
    found = np.load(output)

    assert (0, "") == (done.code, done.err)
    assert (shape, dtype) == (found.shape, str(found.dtype))
    assert "loaded the best checkpoint" in done.out
    assert f"wrote {output}: {' × '.join(map(str, shape))} {dtype}" in done.out
    assert activation != "sigmoid" or (found.min() > 0 and found.max() < 1)


def test_infer_predicts_an_array(mlc, trained, tmp_path):
    """As the model does in Python."""
    source, output = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(source, np.random.default_rng(1).normal(size=(5, 1, 8, 8)))
    done = mlc("infer", trained, "--input", source, "--output", output, "--json")
    manager = ModelManager.from_experiment_dir(trained, "cpu")
    expected = manager.predict(torch.from_numpy(np.load(source)).float())

    assert {"checkpoint": str(manager.location), "output": str(output), "shape": [5, 1, 8, 8]} == done.json
    assert np.array_equal(expected.numpy(), np.load(output))


def test_infer_refuses_what_is_no_array_of_numbers(mlc, trained, tmp_path):
    """A pickle in it is not opened, and a shape that does not fit is said."""
    hostile, flat = tmp_path / "x.npy", tmp_path / "flat.npy"
    np.save(hostile, np.array([print], dtype=object), allow_pickle=True)
    np.save(flat, np.zeros((2, 8)))
    outcomes = [mlc("infer", trained, "--input", one, "--output", tmp_path / "y.npy") for one in (hostile, flat)]

    assert [1, 1] == [one.code for one in outcomes]
    assert "x.npy is not a .npy file with an array of numbers: Object arrays cannot be loaded" in outcomes[0].err
    assert "the model does not take inputs of shape (2, 8)" in outcomes[1].err
    assert not (tmp_path / "y.npy").exists()


def test_toml_as_a_person_writes_it(mlc, tmp_path, run_dir):
    """With the smallest that is enough."""
    file = tmp_path / "tiny.toml"
    file.write_text(
        textwrap.dedent("""\
            model.factory = "tiny:Net"
            data.factory = "tiny:Blobs"
            loss.preset = "default_segmentation"
            training.num_epochs = 1
        """)
    )
    done = mlc("train", file, "--run-dir", run_dir)

    assert 0 == done.code
    assert [1] == [line["epoch"] for line in read_journal(run_dir / "metrics.jsonl") if line["event"] == "epoch"]


@pytest.mark.parametrize("name", ["train", "resume", "evaluate", "infer", "demo"])
def test_every_command_explains_itself(mlc, name):
    """And is named in the list of commands."""
    done = mlc(name, "--help")

    assert 0 == done.code
    assert f"Usage: mlc {name} " in done.out
    assert f"  {name} " in mlc("--help").out
