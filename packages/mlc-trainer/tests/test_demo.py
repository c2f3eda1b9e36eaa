"""The demo's data, its proof and its pieces; the whole of it is played elsewhere."""

import importlib.util
import json
from importlib import metadata, resources

import pytest
import torch

from mlc_trainer import ExperimentManager, RunError, read_config
from mlc_trainer.config_files import read_config as read
from mlc_trainer.demo import brain, command
from mlc_trainer.demo.brain import CLASSES, TRAINING, VALIDATION, BrainTissue
from mlc_trainer.demo.proof import compare_runs
from mlc_trainer.demo.script import Script
from mlc_trainer.demo.unet import UNet


def test_training_and_validation_have_a_gap_of_four_slices():
    """Neighbours are alike: 8 mm lie between the two, and no slice is in both."""
    assert not set(TRAINING) & set(VALIDATION)
    assert min(VALIDATION) - max(TRAINING) > 4
    data = BrainTissue()
    assert (len(TRAINING), len(VALIDATION)) == (len(data.training()), len(data.validation())) == (44, 18)


def test_slices_are_what_they_say():
    """Images and two tissues that do not overlap, on a grid that can be halved often."""
    for part in (BrainTissue().training(), BrainTissue().validation()):
        for index in (0, len(part) - 1):
            image, tissue = part[index]

            assert ((1, 80, 96), torch.float32) == (image.shape, image.dtype)
            assert ((len(CLASSES), 80, 96), torch.float32) == (tissue.shape, tissue.dtype)
            assert {0.0, 1.0} >= set(tissue.unique().tolist())
            assert tissue.sum(0).max() <= 1
            assert 0 <= image.min() < image.max() < 2
            assert tissue.any()


def test_truth_is_fixed_and_noise_is_drawn():
    """Another noise each time, from the global generator, and the same from the same seed."""
    data = BrainTissue().training()
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(data[3])

    assert torch.equal(draws[0][0], draws[1][0])
    assert not torch.equal(draws[0][0], draws[2][0])
    assert torch.equal(draws[0][1], draws[2][1])


def test_scanner_of_a_run_is_one_scanner():
    """Without noise, an image is the same every time; without its field it is the template."""
    quiet, clean = BrainTissue(noise=0.0).validation(), BrainTissue(noise=0.0, bias=0.0).validation()

    assert torch.equal(quiet[2][0], quiet[2][0])
    assert not torch.equal(quiet[2][0], clean[2][0])
    assert clean[2][0].max() <= 1


def test_licence_of_the_template_is_beside_it():
    """In the package's data, and among the licences of the distribution."""
    text = resources.files(brain.__package__).joinpath("data/LICENSE-mni152.txt").read_text(encoding="utf-8")
    files = [str(one) for one in metadata.distribution("mlc-trainer").files or []]

    assert "McConnell Brain Imaging Centre" in text
    assert any(one.endswith("LICENSE-mni152.txt") for one in files) or "Permission to use" in text


def test_configuration_of_the_demo_can_be_followed(tmp_path):
    """Everything that it names is there, and the model fits the data."""
    config = read(resources.files(command.__package__).joinpath("brain.toml"))
    experiment = ExperimentManager(config, tmp_path / "run").setup()
    batch = next(iter(experiment._training.epoch(0)))

    assert (4, 2, 80, 96) == experiment.engine.model(batch[0]).shape
    assert 11 == len(experiment._training)
    assert {"loss", "dice_loss", "bce_loss"} == set(experiment.engine.train_step(batch))


def test_net_gives_logits_of_the_size_of_its_images():
    """For every number of levels."""
    image = torch.zeros(2, 1, 16, 24)

    assert all((2, 3, 16, 24) == UNet(channels_out=3, width=2, levels=one)(image).shape for one in (0, 1, 3))


# ---------------------------------------------------------------------- proof


@pytest.fixture
def twin(trained, configure, tmp_path):
    """A second run of the same configuration."""
    ExperimentManager(configure(), tmp_path / "twin").run()
    return tmp_path / "twin"


def test_equal_runs_are_equal(trained, twin):
    """Every file and every epoch is named."""
    told = compare_runs(trained, twin, "model")

    files = ("loss.safetensors", "model.safetensors", "optimizer.safetensors", "state.json", "engine.safetensors")
    assert {line.split()[0] for line in told[:-1]} <= set(files)
    assert {"model.safetensors", "optimizer.safetensors", "state.json"} <= {line.split()[0] for line in told}
    assert "the metrics of all 3 epochs" == told[-1]


def test_planted_differences_are_found(trained, twin, configure, tmp_path):
    """Another seed, another number in the journal, an epoch that is missing."""
    ExperimentManager(configure(training={"seed": 1}), tmp_path / "other").run()
    with pytest.raises(RunError, match=r"\.safetensors of the final checkpoints differs: "):
        compare_runs(trained, tmp_path / "other", "model")
    journal = twin / "metrics.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    lines[[line["event"] for line in lines].index("epoch")]["val_loss"] += 1e-16
    lines[[line["event"] for line in lines].index("epoch")]["val_dice"] += 1e-12
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RunError, match="the metrics of epoch 1 differ"):
        compare_runs(trained, twin, "model")
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines if line["event"] != "epoch"))
    with pytest.raises(RunError, match=r"measured 3 epochs and .* 0"):
        compare_runs(trained, twin, "model")


# ---------------------------------------------------------------------- the command


def test_demo_needs_an_empty_directory(mlc, tmp_path, monkeypatch):
    """Nothing of anybody's is written over."""
    monkeypatch.setattr(command, "find_spec", lambda name: object())
    (tmp_path / "mine").write_text("")
    done = mlc("demo", tmp_path)

    assert 1 == done.code
    assert f"Error: {tmp_path} is not empty; name another directory for the demo, or remove it" in done.err


def test_demo_says_what_to_install(mlc, tmp_path, monkeypatch):
    """Before it begins."""
    real = importlib.util.find_spec
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "mlc_registry" else real(name))
    done = mlc("demo", tmp_path / "demo")

    assert 1 == done.code
    assert "Error: the demo also needs mlc_registry: pip install 'mlc-trainer[demo]'" in done.err
    assert not (tmp_path / "demo").exists()


def test_demo_judges_what_it_reached(mlc, tmp_path, monkeypatch):
    """Below what the task allows, it fails; it leaves the configuration for its reader."""
    for dice, code in ((0.5, 1), (0.95, 0)):
        monkeypatch.setattr(Script, "play", lambda _, dice=dice: dice)
        monkeypatch.setattr(command, "find_spec", lambda name: object())
        done = mlc("demo", tmp_path / str(dice))

        assert code == done.code
        assert ("mean Dice 0.500 is below" in done.err) == bool(code)
        assert 25 == read_config(tmp_path / str(dice) / "brain.toml").training.num_epochs


@pytest.fixture
def script(tmp_path):
    """The script of a demo in a new directory."""
    config = tmp_path / "brain.toml"
    config.write_text(resources.files(command.__package__).joinpath("brain.toml").read_text(encoding="utf-8"))
    return Script(tmp_path, config, prove=False)


def test_script_knows_how_long_the_run_is(script):
    """And where it is, from the journal."""
    assert (25, 11) == script._length()
    assert {"step": 0, "epoch": 0} == script._position()


def test_script_shows_what_it_types(script, capsys):
    """And stops where a command fails."""
    told = script._type("What is on disk", "checkpoints", "--help", read=True)
    with pytest.raises(RunError, match="`mlc nonsense` failed with exit status 2; see above"):
        script._type("Go on", "nonsense")
    out = capsys.readouterr().out

    assert "Usage: mlc checkpoints" in told
    assert "── What is on disk" in out
    assert "$ mlc checkpoints --help" in out


class Ended:
    """A child that is no more."""

    returncode = 3

    def poll(self):
        """Say so."""
        return self.returncode


def test_script_notices_a_child_that_ends_by_itself(script):
    """It does not wait for a step that never comes."""
    with pytest.raises(RunError, match="training ended by itself with exit status 3"):
        script._wait_for_step(Ended(), 5)


def test_script_tells_where_everything_lies(script, capsys):
    """Each thing with what it is."""
    script._tell_where(61.4)
    out = capsys.readouterr().out

    assert "Done in 61 s" in out
    assert all(word in out for word in ("curves.png", "predictions.png", "registry", "brain.toml"))
