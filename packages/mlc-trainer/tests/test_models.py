"""A trained model by itself."""

import functools
import json
import pickle

import numpy as np
import pytest
import torch

from mlc_core import (
    CheckpointManager,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    EntryExistsError,
    MismatchError,
    open_checkpoint,
)
from mlc_trainer import ConfigError, ExperimentManager, FactoryError, ModelManager, RunError
from mlc_trainer.inference import activate, load_inputs, write_output


@pytest.fixture(scope="module")
def manager(trained):
    """The best model of a run."""
    return ModelManager.from_experiment_dir(trained, device="cpu")


def test_best_checkpoint_of_a_run_is_taken(manager, trained):
    """And it is known which that was."""
    best = open_checkpoint(trained / "checkpoints/model/best")

    assert best.saved == manager.saved
    assert best.location == manager.location
    assert "tiny:Net" == manager.config.model.factory


def test_latest_is_taken_where_none_was_measured(configure, tmp_path, killer, killed):
    """A run that died in its first epoch has something to look at, too."""
    table = {"save_strategy": "interval", "strategy_options": {"every": 1, "unit": "steps"}}
    with pytest.raises(killed):
        ExperimentManager(configure(checkpoints=table), tmp_path, observers=[killer(2, "checkpoint_saved")]).run()

    assert 2 == ModelManager.from_experiment_dir(tmp_path, "cpu").saved.step


def test_prediction_is_that_of_the_model_when_it_is_not_trained(manager, trained):
    """In batches of any size, without dropout, without a graph; the same as the experiment's own."""
    experiment = ExperimentManager.load_best_model(trained)
    inputs = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    experiment.engine.model.eval()
    with torch.no_grad():
        expected = torch.cat([experiment.engine.model(part) for part in inputs.split(4)])
    found = manager.predict(inputs)

    assert torch.equal(expected, found)
    assert torch.equal(found, manager.predict(inputs))
    assert not found.requires_grad
    assert torch.device("cpu") == manager.device


def test_inputs_of_another_shape_are_refused(manager):
    """With the shape."""
    with pytest.raises(ConfigError, match=r"does not take inputs of shape \(2, 3, 8, 8\): .*channels"):
        manager.predict(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ConfigError, match=r"does not take inputs of shape \(\)"):
        manager.predict(torch.tensor(1.0))


def test_model_is_had_by_calling_the_manager(trained, manager, configure):
    """Of a run, or of a model at hand and what describes it; nothing else is guessed."""
    assert ModelManager(trained).evaluate() == ModelManager(experiment_dir=trained).evaluate() == manager.evaluate()
    own = ModelManager(model=manager.model, config=manager.config)
    assert own.evaluate() == manager.evaluate()
    assert own.location is None
    for wrong in ({}, {"model": manager.model}, {"experiment_dir": trained, "config": manager.config}):
        with pytest.raises(ConfigError, match="is of experiment_dir, or of model and config together"):
            ModelManager(**wrong)


def test_other_metrics_are_measured_if_asked(manager):
    """Instead of the run's own; the loss is measured all the same."""
    from tiny import Accuracy

    found = manager.evaluate(metrics=Accuracy)

    assert {"val_accuracy", "val_loss"} <= set(found)
    assert "val_dice" not in found


def test_prediction_is_in_the_precision_that_was_measured_in(configure, tmp_path):
    """Half of the digits, as in training, and float32 for whoever takes it."""
    ExperimentManager(configure(training={"precision": "bf16", "num_epochs": 1}), tmp_path).run()
    manager, inputs = ModelManager(tmp_path), torch.randn(2, 1, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = manager.model(inputs)

    assert torch.bfloat16 == expected.dtype
    assert torch.equal(expected.float(), manager.predict(inputs))


def test_evaluation_is_what_the_manifest_says(manager):
    """Number by number, to the bit."""
    assert manager.evaluate() == {name: one for name, one in manager.saved.metrics.items() if name.startswith("val_")}


def test_evaluation_needs_no_training_data(trained_copy, monkeypatch):
    """Where a model is measured, it need not lie."""
    import tiny

    monkeypatch.setattr(tiny.Blobs, "training", None)
    file = trained_copy / "config.json"
    config = json.loads(file.read_text())
    assert {} == config["data"]["options"]
    monkeypatch.setattr(tiny.Blobs, "training", lambda self: 1 / 0)

    assert {"val_dice"} <= set(ModelManager.from_experiment_dir(trained_copy, "cpu").evaluate())


def test_evaluation_on_other_data(manager):
    """Pairs of input and target."""
    zeros = torch.zeros(2, 1, 8, 8)

    assert {"val_loss", "val_dice"} <= set(manager.evaluate([(zeros, zeros)]))


def test_a_copy_of_a_checkpoint_is_enough(trained_copy, tmp_path):
    """It says itself how its model is built."""
    moved = (trained_copy / "checkpoints/model/epoch_3").rename(tmp_path / "weights of tuesday")
    manager = ModelManager.from_checkpoint(moved, "cpu")

    assert 3 == manager.saved.epoch
    assert manager.evaluate()


def test_what_is_none_is_said(tmp_path, configure):
    """No run, no checkpoint yet, no checkpoint at all, and one that somebody else saved."""
    with pytest.raises(RunError, match=r"is not the directory of a run: it has no config\.json"):
        ModelManager.from_experiment_dir(tmp_path)
    experiment = ExperimentManager(configure(), tmp_path).setup()
    experiment.directory.write(experiment.config, "1")
    with pytest.raises(CheckpointNotFoundError, match=f"no checkpoint in {tmp_path}/checkpoints yet"):
        ModelManager.from_experiment_dir(tmp_path)
    with pytest.raises(CheckpointNotFoundError, match="is not a checkpoint"):
        ModelManager.from_checkpoint(tmp_path)
    path = CheckpointManager(tmp_path, "other").save_checkpoint(experiment.engine.model, epoch=1)
    with pytest.raises(CheckpointNotFoundError, match="does not say how its model is built: it was not saved"):
        ModelManager.from_checkpoint(path)


def test_corrupt_checkpoint_is_refused(trained_copy):
    """A changed weight is never measured."""
    file = trained_copy / "checkpoints/model/best/model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match=r"model.safetensors was changed after it was committed"):
        ModelManager.from_experiment_dir(trained_copy)


def test_class_that_changed_is_refused(trained, monkeypatch):
    """Weights that do not fit, and a class that is gone."""
    import tiny

    class Wider(tiny.Net):
        """Of the same name, later."""

        def __init__(self, **options):
            super().__init__(channels=2, **options)

    monkeypatch.setattr(tiny, "Net", Wider)
    with pytest.raises(MismatchError, match="does not fit the model: 2 of another shape"):
        ModelManager.from_experiment_dir(trained)
    monkeypatch.delattr(tiny, "Net")
    with pytest.raises(FactoryError, match="'tiny' has no 'Net'"):
        ModelManager.from_experiment_dir(trained)


# ---------------------------------------------------------------------- arrays in, predictions out


def test_inputs_of_a_run_are_its_validation_data(manager):
    """The same whenever they are asked for."""
    inputs = load_inputs(None, manager.config)

    assert (3, 1, 8, 8) == inputs.shape
    assert torch.equal(inputs, load_inputs(None, manager.config))


@pytest.mark.parametrize("dtype", ["float64", "uint8", "bool", ">i4", "float16"])
def test_arrays_of_numbers_are_taken(manager, tmp_path, dtype):
    """As float32, in any memory order."""
    array = np.asfortranarray(np.arange(6).reshape(1, 2, 3) % 2).astype(dtype)
    np.save(tmp_path / "x.npy", array)
    found = load_inputs(tmp_path / "x.npy", manager.config)

    assert torch.float32 == found.dtype
    assert array.astype("float32").tolist() == found.tolist()


def write_pickle(path):
    """An array of objects, which would run code when it is read."""
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def write_archive(path):
    """Several arrays in one file."""
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def write_claim(path):
    """A header that claims more than there can be."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**62,)})


@pytest.mark.parametrize(
    "write",
    [
        write_pickle,
        write_archive,
        write_claim,
        lambda path: path.write_bytes(pickle.dumps([1])),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04 nonsense"),
        lambda path: path.mkdir(),
        lambda path: np.save(path, np.array(["text"])),
        lambda path: np.save(path, np.array([1j])),
        lambda path: None,
    ],
)
def test_other_files_are_refused(manager, tmp_path, write):
    """Nothing in them is run, and no memory is reserved for what they claim."""
    path = tmp_path / "x.npy"
    write(path)
    with pytest.raises(ConfigError, match=f"{path} (is not a .npy file|holds .*, which is no number)"):
        load_inputs(path, manager.config)


def test_activations():
    """Over channels."""
    logits = torch.tensor([[[0.0], [1.0], [-1.0]]])

    assert torch.equal(logits.sigmoid(), activate(logits, "sigmoid"))
    assert torch.equal(logits.softmax(1), activate(logits, "softmax"))
    assert [[1]] == activate(logits, "argmax").tolist()
    assert logits is activate(logits, "none")
    with pytest.raises(ConfigError, match=r"softmax is over channels, and the prediction \(3,\) has none"):
        activate(torch.zeros(3), "softmax")


def test_output_is_written_where_it_should_be(tmp_path):
    """In a directory that is made, or with an error of ours."""
    write_output(tmp_path / "new" / "y.npy", torch.ones(2))
    assert [1, 1] == np.load(tmp_path / "new" / "y.npy").tolist()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_output(tmp_path / "new" / "y.npy" / "z.npy", torch.ones(2))


# ---------------------------------------------------------------------- out of memory, into files


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_weights_are_exported_as_others_read_them(manager, tmp_path, name):
    """By the libraries that the formats are from, and never over something."""
    path = manager.save(tmp_path / "out" / name)
    if name.endswith("safetensors"):
        read = pytest.importorskip("safetensors.torch").load_file
    else:
        read = functools.partial(torch.load, weights_only=True)
    found = read(path)

    assert found.keys() == manager.model.state_dict().keys()
    assert all(torch.equal(one, found[key]) for key, one in manager.model.state_dict().items())
    with pytest.raises(EntryExistsError, match=name):
        manager.save(path)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_export_is_no_checkpoint(manager, tmp_path, name, monkeypatch):
    """Nobody who listens to checkpoints hears of it, and no storage is opened."""
    heard = []
    for event in ("checkpoint_saved", "checkpoint_removed", "checkpoint_restored"):
        monkeypatch.setattr(f"mlc_core.events.{event}", lambda *_, event=event: heard.append(event))
    monkeypatch.setattr("mlc_core.storage.memory.MemoryStorage.__init__", lambda *_, **__: heard.append("memory"))
    manager.save(tmp_path / name)

    assert [] == heard


def test_experiment_exports_saves_and_hands_out_its_model(configure, tmp_path):
    """The methods of the documents; what was handed out stays as it was."""
    experiment = ExperimentManager(configure(), tmp_path / "run").setup()
    with pytest.raises(RunError, match="nothing was trained yet"):
        experiment.save_checkpoint()
    experiment.run(1)
    model = experiment.get_model_manager()
    before = {name: one.clone() for name, one in model.model.state_dict().items()}
    copied = experiment.save_checkpoint(tmp_path / "copy", is_best=True)
    assert (tmp_path / "run/checkpoints/model/epoch_1") == experiment.save_checkpoint()
    exported = experiment.export_model(tmp_path / "exported.safetensors")
    experiment.resume_training()

    assert before.keys() == model.model.state_dict().keys()
    assert all(torch.equal(one, before[name]) for name, one in model.model.state_dict().items())
    assert exported.is_file()
    assert 1 == ModelManager.from_checkpoint(copied, "cpu").saved.epoch
    assert "epoch_1" in {one.name for one in experiment.checkpoints.list_checkpoints()}
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint holds it"):
        _ = model.saved
    with pytest.raises(RunError, match="copy is there already"):
        experiment.save_checkpoint(copied)


@pytest.mark.parametrize("samples", [1, 3])
def test_predictions_can_be_looked_at(manager, tmp_path, samples):
    """A picture, of the run's data or of others."""
    pytest.importorskip("matplotlib")
    path = manager.visualize(num_samples=samples, path=tmp_path / "pictures" / "found.png")

    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="nothing to draw"):
        manager.visualize([], path=path)
