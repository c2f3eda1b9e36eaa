"""What the README shows works, from top to bottom."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_examples_run(tmp_path, monkeypatch, capsys):
    """Every Python block, in order, in an empty directory."""
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(README), "exec"), names)

    assert "2 {'val_dice': 0.87}" in capsys.readouterr().out
    assert {"passed": 4} == dict(
        names["CheckpointManager"]("checkpoints", "third_model").list_checkpoints()[0].strategy
    )["state"]


def test_layout_is_what_is_written(tmp_path):
    """The files that the README draws are the files that a save makes."""
    torch = pytest.importorskip("torch")
    from mlc_core import CheckpointManager

    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    manager = CheckpointManager(tmp_path, "my_model", monitor_metric="val_dice", mode="max")
    path = manager.save_checkpoint(model, optimizer, epoch=2, metrics={"val_dice": 0.85})
    drawn = README.read_text(encoding="utf-8").split("## On disk")[1].split("```")[1]

    for file in (*path.iterdir(), *path.parent.iterdir()):
        assert re.search(rf"^ +{re.escape(file.name)}\b", drawn, re.MULTILINE), file.name


def test_tables_name_every_strategy():
    """What we offer by name is in the table."""
    from mlc_core.hooks import mlc_save_strategies

    text = README.read_text(encoding="utf-8")
    assert [] == [name for name in mlc_save_strategies() if f'"{name}"' not in text]
