"""What is public, and how mlc-trainer behaves as a plugin and as a package."""

import importlib
import os
import pkgutil
import subprocess
import sys
import types

import pytest
import torch

import mlc_trainer
from mlc_hooks import MlcError
from mlc_hooks.testing import PluginContract
from mlc_trainer import environment, errors

MODULES = sorted(one.name for one in pkgutil.walk_packages(mlc_trainer.__path__, "mlc_trainer."))


class TestManners(PluginContract):
    """As every plugin."""

    @pytest.fixture
    def plugin_name(self):
        """Ours."""
        return "mlc-trainer"


@pytest.mark.parametrize("name", MODULES)
def test_all_is_what_a_module_defines_for_others(name):
    """`__all__` names every public function and class that the module defines, and nothing that is not there."""
    module = importlib.import_module(name)
    kinds = (type, types.FunctionType)
    defined = {
        each
        for each, value in vars(module).items()
        if isinstance(value, kinds) and value.__module__ == name and not each.startswith("_")
    }
    listed = getattr(module, "__all__", [])

    assert sorted(set(listed)) == sorted(listed)
    assert [] == sorted(defined - {*listed})
    assert [] == [each for each in listed if not hasattr(module, each)]
    assert module.__doc__.splitlines()[0].endswith((".", "?"))


def test_package_gives_what_it_lists():
    """When it is asked for, and nothing else."""
    assert {*mlc_trainer.__all__} <= {*dir(mlc_trainer)}
    assert all(name == getattr(mlc_trainer, name).__name__ for name in mlc_trainer.__all__)
    with pytest.raises(AttributeError, match="module 'mlc_trainer' has no attribute 'Trainer'"):
        mlc_trainer.Trainer  # noqa: B018


def test_every_error_is_an_mlc_error_and_a_built_in():
    """One class catches all of ours, and whoever guesses a built-in is right as well."""
    kinds = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]

    assert all(issubclass(kind, MlcError) for kind in kinds)
    assert all(
        issubclass(kind, (ArithmeticError, ImportError, RuntimeError, TimeoutError, ValueError)) for kind in kinds
    )
    assert issubclass(errors.ResumeWarning, UserWarning)


def test_what_is_quick_does_not_import_torch():
    """Importing the package, reading a configuration, and `mlc --help`: a second that nobody need wait."""
    code = """
import sys
import mlc_trainer
from mlc_trainer import ConfigError, as_data, from_data, read_config, read_journal
from mlc_trainer.observers import RunRecord
from mlc_trainer.observers.progress import progress
from mlc_hooks.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print(sorted({"torch", "numpy", "matplotlib", "sqlalchemy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert "[]" == done.stdout.splitlines()[-1]
    assert "Go on with a run that was stopped or killed, to the bit." in done.stdout


def test_fingerprint_is_what_the_bits_depend_on(monkeypatch):
    """On a CUDA device, more of it; and torch is told to repeat itself."""
    asked = []
    for name, value in {
        "torch.cuda.get_device_name": lambda device: "H1",
        "torch.use_deterministic_algorithms": asked.append,
        "torch.backends.cudnn.benchmark": True,
    }.items():
        monkeypatch.setattr(name, value)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    environment.prepare(torch.device("cuda"), threads=None, deterministic=True)
    found = environment.fingerprint(torch.device("cuda"))

    assert [True] == asked
    assert not torch.backends.cudnn.benchmark
    assert ":4096:8" == os.environ["CUBLAS_WORKSPACE_CONFIG"]
    assert {"python", "torch", "numpy", "machine", "device", "threads", "gpu", "cuda"} <= set(found)
    assert {*environment.fingerprint(torch.device("cpu"))} < {*found}
