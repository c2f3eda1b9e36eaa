"""What the README says."""

import importlib.metadata
import re
from pathlib import Path

import pytest

from mlc_trainer import read_config
from mlc_trainer.config import ExperimentConfig

BESIDE = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def readme():
    """The text that users read: the file beside the tests, or else that of the installed distribution."""
    return BESIDE.read_text() if BESIDE.exists() else importlib.metadata.metadata("mlc-trainer").get_payload()


def test_python_blocks_run(readme, tmp_path, monkeypatch, capsys):
    """From top to bottom, as a reader would."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    blocks = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)

    assert 6 == len(blocks)
    assert re.match(r"validation loss 0\.\d{3}\nepoch 1: 0\.001\n", capsys.readouterr().out)


def test_first_configuration_is_whole(readme, tmp_path, monkeypatch, mlc):
    """It can be typed in, and the first command works."""
    monkeypatch.chdir(tmp_path)
    text, _ = re.findall(r"^```toml\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "brain.toml").write_text(text)
    done = mlc("train", "brain.toml", "--set", "training.num_epochs=1", "--set", "optimizer.options.lr=1e-3", "--json")

    assert {"val_dice_grey", "val_dice_white"} <= set(done.json["metrics"])
    assert (tmp_path / "runs/brain/checkpoints/brain-tissue/epoch_1").is_dir()


def test_configuration_shows_every_setting(readme, tmp_path):
    """It can be read, and there is no key that it does not show."""
    _, text = re.findall(r"^```toml\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "shown.toml").write_text(text)
    config = read_config(tmp_path / "shown.toml")
    tables = re.findall(r"^\[\[?(\w+)\]", text, re.MULTILINE)

    assert sorted(set(tables)) == sorted(one.name for one in ExperimentConfig.__attrs_attrs__)
    for table in tables:
        shown = re.search(rf"^\[\[?{table}\].*?\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)[1]
        keys = set(re.findall(r"^(?:# )?(\w+) =", shown, re.MULTILINE))
        part = getattr(config, table)

        assert keys == {one.name for one in (part[0] if isinstance(part, tuple) else part).__attrs_attrs__}


def test_commands_are_those_that_there_are(readme, mlc):
    """Each one's options are known."""
    (text,) = re.findall(r"^```\n(mlc train.*?)^```", readme, re.MULTILINE | re.DOTALL)
    for line in text.splitlines():
        words = line.split("#")[0].split()
        told = mlc(words[1], *(["ls"] if words[1] == "checkpoints" else []), "--help").out

        assert [] == [word for word in words if word.startswith("--") and word not in told]
