"""A registry, something to publish, and the `mlc` command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap

import pytest

from mlc_registry import ModelRegistry


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Nothing that the developer has set decides a test."""
    for name in ("MLC_REGISTRY", "MLC_PLUGINS", "MLC_PLUGINS_STRICT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def root(tmp_path):
    """Where the registry is, or will be."""
    return tmp_path / "registry"


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory):
    """A registry that is made once, as making one loads Alembic; to be copied."""
    place = tmp_path_factory.mktemp("empty") / "registry"
    ModelRegistry(place).close()
    return place


@pytest.fixture
def registry(root, empty_registry):
    """An empty registry."""
    shutil.copytree(empty_registry, root)
    with ModelRegistry(root) as opened:
        yield opened


@pytest.fixture
def weights(tmp_path):
    """Make a file with some content and return its path."""

    def make(content="weights", name="model.bin"):
        path = tmp_path / "made" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return path

    return make


@pytest.fixture
def checkpoint(tmp_path):
    """A directory as training leaves it: a manifest, weights, and a folder."""
    path = tmp_path / "checkpoints" / "net" / "epoch_9"
    (path / "more").mkdir(parents=True)
    (path / "manifest.json").write_text(json.dumps({"format": "mlc-checkpoint/1", "name": "epoch_9"}))
    (path / "model.safetensors").write_bytes(bytes(range(256)))
    (path / "more" / "state.json").write_text("{}")
    return path


@pytest.fixture
def publish(registry, weights):
    """Publish versions, each with content of its own."""

    def publish(*texts, name="net", **options):
        return [registry.register_model(name, text, weights(f"{name} {text}"), **options) for text in texts]

    return publish


@pytest.fixture
def mlc(capsys):
    """Run `mlc` in this process; return the exit status, what it printed, and what it complained about."""
    from mlc_hooks.cli import main

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(one) for one in arguments])
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def run_python():
    """Run code in a process of its own, with warnings as errors; return what it printed."""

    def run(code, *arguments):
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)]
        process = subprocess.run(command, check=False, capture_output=True, text=True)
        assert 0 == process.returncode, process.stderr
        return process.stdout

    return run
