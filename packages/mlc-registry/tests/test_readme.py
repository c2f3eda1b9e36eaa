"""What the README says."""

import importlib.metadata
import re
import shlex
from pathlib import Path

import pytest

from mlc_registry import ModelRegistry
from mlc_registry.commands import registry as registry_group

BESIDE = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def readme():
    """The text that users read: the file beside the tests, or else that of the installed distribution."""
    if BESIDE.exists():
        return BESIDE.read_text()
    return importlib.metadata.metadata("mlc-registry").get_payload()


def test_examples_run(readme, tmp_path, monkeypatch, capsys):
    """Every Python block, one after the other."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    names["registry"].close()

    assert 4 == len(blocks)
    assert f"{tmp_path}/registry/artifacts/brain-tissue/1.0.0/model.bin" == capsys.readouterr().out.splitlines()[0]


def test_table_of_references_is_true(readme, registry, publish):
    """Each row finds what it says."""
    publish("0.9.0", "1.2.3", "1.2.9", "1.10.0", "2.0.0-rc.1")
    rows = re.findall(r"^\| (`.*?) \| .* \| ([0-9]\S*) \|$", readme, re.MULTILINE)
    for references, version in rows:
        for reference in re.findall(r"`(.*?)`", references.replace("\\|", "|")):
            assert version == str(registry.resolve("net", reference).version), reference

    assert 11 == len(rows)


def test_commands_run(readme, mlc, tmp_path, monkeypatch):
    """Those of the shell, as they stand."""
    monkeypatch.chdir(tmp_path)
    best = tmp_path / "runs/x/checkpoints/net/best"
    best.mkdir(parents=True)
    (best / "model.bin").write_text("weights")
    (block,) = re.findall(r"^```console\n(mlc registry.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        words = shlex.split(line)
        if words[0] == "mlc":
            assert 0 == mlc(*words[1:])[0], line
    with ModelRegistry("registry", create=False) as registry:
        tracking = registry.get("lesions", "1.2.0").tracking
        assert ({"dice": 0.93}, "exp_7") == (tracking.metrics, tracking.run)
        assert "1.2.0" == str(registry.resolve("lesions", "production").version)


def test_every_command_is_named(readme):
    """Each once, in the table of commands, and no other."""
    (table,) = re.findall(r"^\| to \| commands \|\n(.*?)^$", readme, re.MULTILINE | re.DOTALL)

    assert sorted(registry_group.commands) == sorted(re.findall(r"`(.*?)`", table))
