"""The packages together: what one writes the next one reads, through the commands that people type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mlc_hooks.cli import mlc

if TYPE_CHECKING:
    from collections.abc import Callable

BRAIN = Path(__file__).parents[1] / "packages/mlc-trainer/src/mlc_trainer/demo/brain.toml"
SMALL = ["--set", "model.options.width=4", "--set", "training.num_epochs=2"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command that must succeed, in an empty directory, and return what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> str:
        result = CliRunner().invoke(mlc, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return call


def test_from_a_training_step_to_a_version_in_production(run: Callable[..., str], tmp_path: Path) -> None:
    """A trained checkpoint is published, promoted, found by range and measured, and its numbers stay what they were."""
    trained = json.loads(run("train", BRAIN, "--run-dir", "run", *SMALL, "--json"))
    run("registry", "register", "brain", "1.9.0", trained["best"])
    run("registry", "register", "brain", "1.10.0", trained["latest"])
    run("registry", "promote", "brain@1.10.0", "production", "--reason", "measured")
    found = run("registry", "resolve", "brain@^1", "--path").strip()
    measured = json.loads(run("evaluate", "--checkpoint", found, "--json"))

    assert found == run("registry", "resolve", "brain@production", "--path").strip()
    assert Path(found).name == "1.10.0"
    expected = {name: value for name, value in trained["metrics"].items() if name.startswith("val_")}
    assert expected == measured["metrics"]


def test_a_published_version_outlives_its_run(run: Callable[..., str], tmp_path: Path) -> None:
    """Retention and `rm -r` cannot take away what was published."""
    trained = json.loads(run("train", BRAIN, "--run-dir", "run", *SMALL, "--json"))
    run("registry", "register", "brain", "1.0.0", trained["best"])
    for path in sorted((tmp_path / "run").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()

    run("registry", "verify", "brain@1.0.0")
    found = run("registry", "resolve", "brain@1.0.0", "--path").strip()
    assert "ok" in run("checkpoints", "verify", found)


def test_a_plugin_s_parts_work_in_a_run(run: Callable[..., str], tmp_path: Path) -> None:
    """A configuration may name a plugin's loss and save strategy as if they were ours."""
    loss = ["--set", "loss.preset=dice_focused", "--set", "loss.config.tversky_weight=0.5"]
    strategy = ["--set", "checkpoints.save_strategy=plateau", "--set", "checkpoints.strategy_options={patience=2}"]
    run("train", BRAIN, "--run-dir", "run", *SMALL, *loss, *strategy)

    journal = (tmp_path / "run/metrics.jsonl").read_text(encoding="utf-8")
    assert "train_tversky_loss" in journal
