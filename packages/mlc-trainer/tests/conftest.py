"""What the tests of this package share: a tiny experiment, ways to end it, and equality to the bit."""

import copy
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import attrs
import pytest
import torch
from hypothesis import settings

from mlc_core import open_checkpoint
from mlc_hooks.cli import main
from mlc_trainer import ExperimentManager, from_data, read_journal

LAB = Path(__file__).parent / "lab"
sys.path.insert(0, str(LAB))  # configurations name `tiny:Net`
torch.set_num_threads(1)
if settings.default.deadline is not None:  # run by itself, without the repository around it
    settings.register_profile("patient", deadline=None, max_examples=30)
    settings.load_profile("patient")

BASE = {
    "model": {"factory": "tiny:Net"},
    "data": {"factory": "tiny:Blobs", "batch_size": 4},
    "loss": {"preset": "default_segmentation"},
    "metrics": {"factory": "mlc_trainer.metrics:DiceScore", "options": {"classes": ["blob"]}},
    "training": {"num_epochs": 3, "log_every": 2, "device": "cpu"},
}
"""Three epochs of three steps."""


def pytest_configure(config):
    """Allow what is no fault here: more workers than cores, and forking with threads that wait for nothing."""
    config.addinivalue_line("filterwarnings", "ignore:This DataLoader will create:UserWarning")
    config.addinivalue_line("filterwarnings", "ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(autouse=True, scope="session")
def no_repository():
    """What is committed or edited while tests run is in no checkpoint, or two of them would differ."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlc_trainer.provenance.git_state", lambda _: {})
        yield


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Nothing that the developer has set decides a test."""
    for name in ("MLC_PLUGINS", "MLC_PLUGINS_STRICT"):
        monkeypatch.delenv(name, raising=False)


# ---------------------------------------------------------------------- experiments


def describe(**tables):
    """Return the base configuration as data, with *tables* laid over it; None takes a table away."""
    data = copy.deepcopy(BASE)
    for name, table in tables.items():
        if table is None:
            data.pop(name, None)
        elif "factory" in table or "preset" in table or "config" in table or "name" in table:
            data[name] = {**(data.get(name, {}) if name in {"data", "model"} else {}), **table}
        else:
            data[name] = {**data.get(name, {}), **table}
    return data


@pytest.fixture(scope="session")
def plain():
    """Return the tiny configuration as data."""
    return describe


@pytest.fixture(scope="session")
def configure():
    """Return the tiny configuration, changed table by table."""
    return lambda **tables: from_data(describe(**tables))


@attrs.define
class Watcher:
    """An observer that does what it is told at the moments that it is told about, and nothing else."""

    at: dict = attrs.field(factory=dict)

    def run_started(self, run, position):
        """Do what was told."""
        self._do("run_started", run, position)

    def step_ended(self, position):
        """Do what was told."""
        self._do("step_ended", position)

    def step_logged(self, position, values):
        """Do what was told."""
        self._do("step_logged", position, values)

    def epoch_ended(self, position, metrics):
        """Do what was told."""
        self._do("epoch_ended", position, metrics)

    def rolled_back(self, position):
        """Do what was told."""
        self._do("rolled_back", position)

    def checkpoint_saved(self, position, location):
        """Do what was told."""
        self._do("checkpoint_saved", position, location)

    def run_ended(self, position, error):
        """Do what was told."""
        self._do("run_ended", position, error)

    def _do(self, moment, *facts):
        if moment in self.at:
            self.at[moment](*facts)


@pytest.fixture(scope="session")
def watcher():
    """Return an observer with functions for the moments named."""
    return lambda **at: Watcher(at)


class Killed(BaseException):
    """As a keyboard interrupt is: nobody handles it."""


@pytest.fixture(scope="session")
def killed():
    """What the `killer` raises."""
    return Killed


@pytest.fixture(scope="session")
def killer():
    """Return an observer that ends the run at the first *moment* of step *step* or later."""

    def make(step, moment="step_ended"):
        def kill(position, *_):
            if position.step >= step:
                raise Killed

        return Watcher({moment: kill})

    return make


@pytest.fixture(scope="session")
def bits():
    """Return everything that a run came to: every file of its final checkpoint by digest, and what was measured."""

    def read(run_dir, pointer="final"):
        saved = open_checkpoint(next((Path(run_dir) / "checkpoints").iterdir()) / pointer).saved
        files = {one.name: one.xxh3_128 for one in saved.files}
        lines = read_journal(Path(run_dir) / "metrics.jsonl")
        epochs = [{**line, "at": None} for line in lines if line["event"] == "epoch"]
        return files, epochs, saved.metrics, saved.epoch, saved.step

    return read


@pytest.fixture
def whole(plain, tmp_path, bits):
    """Return the bits of a run that nothing disturbs."""

    def train(**tables):
        config, directory = from_data(json.loads(json.dumps(plain(**tables)))), tmp_path / "whole"
        ExperimentManager(config, directory).run()
        return bits(directory)

    return train


@pytest.fixture(scope="session")
def trained(tmp_path_factory, configure):
    """A run that is complete, to look at; `trained_copy` is for changing."""
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    ExperimentManager(configure(), run_dir).run()
    return run_dir


@pytest.fixture
def trained_copy(trained, tmp_path):
    """The same run, to change."""
    return Path(shutil.copytree(trained, tmp_path / "copy", symlinks=True))


@pytest.fixture(scope="session")
def unpack():
    """Return all tensors of nested state, by path."""

    def walk(value, path=""):
        if isinstance(value, torch.Tensor):
            return {path: value.clone()}
        if isinstance(value, dict):
            return {key: one for name, part in value.items() for key, one in walk(part, f"{path}/{name}").items()}
        if isinstance(value, (list, tuple)):
            return walk(dict(enumerate(value)), path)
        return {path: torch.tensor(value)} if isinstance(value, (int, float)) else {}

    return walk


# ---------------------------------------------------------------------- commands


@attrs.frozen
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """What it printed, as data."""
        return json.loads(self.out)


@pytest.fixture
def mlc(capsys, monkeypatch):
    """Run the command in this process."""

    def run(*words):
        capsys.readouterr()
        monkeypatch.setattr(sys, "path", list(sys.path))
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # as users have it: shown, and no error
            try:
                main([str(word) for word in words])
                code = 0
            except SystemExit as ended:
                code = ended.code or 0
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def start():
    """Start the command in a process of its own, where the lab is the current directory."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

    def begin(*words, cwd=LAB):
        command = [sys.executable, "-m", "mlc_hooks", *map(str, words)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment
        )

    return begin


@pytest.fixture
def config_file(tmp_path):
    """Write a configuration as a file of the tiny experiment."""

    def write(name="tiny.json", **tables):
        path = tmp_path / name
        path.write_text(json.dumps(describe(**tables)))
        return path

    return write
