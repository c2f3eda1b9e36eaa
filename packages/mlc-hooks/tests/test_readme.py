"""What the README says."""

import importlib.metadata
import re
import runpy
from pathlib import Path

import pytest

from mlc_hooks import Catalog

BESIDE = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def readme():
    """The text that users read: the file beside the tests, or else that of the installed distribution."""
    if BESIDE.exists():
        return BESIDE.read_text()
    return importlib.metadata.metadata("mlc-hooks").get_payload()


def test_examples_run(readme, site, monkeypatch):
    """Every Python block is a file that its first line names, or runs as it stands; nothing is left out."""
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    files = {found[1]: block for block in blocks if (found := re.match(r"# (\S+\.py)\n", block))}
    site.install("acme-bakery", files["acme_bakery/hooks.py"])
    site.install("bistro", files["bistro/hooks.py"], specs=files["bistro/hookspecs.py"])
    monkeypatch.setattr("mlc_hooks.plugins._make_shared", _make_once())
    for number, block in enumerate(blocks):
        script = site.path / f"block_{number}.py"
        script.write_text(block)
        runpy.run_path(str(script))

    assert 5 == len(blocks)
    assert ("bake", "plugins") == Catalog("command", hook="mlc_commands", home="mlc_hooks").names()


def test_plugin_of_the_readme_works(readme, site):
    """Its command is in `mlc --help` and does what it says."""
    (code,) = re.findall(r"^```python\n# acme_bakery/hooks.py\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    site.install("acme-bakery", code)

    assert "baked\n" == site.run("bake").stdout
    assert re.search(r"^  bake +Bake a cake\.$", site.run("--help").stdout, re.MULTILINE)


def _make_once():
    from functools import cache

    from mlc_hooks import Plugins
    from mlc_hooks.choice import Choice

    return cache(lambda: Plugins(strict=True, choice=Choice()))
