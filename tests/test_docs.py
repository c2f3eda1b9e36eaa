"""What the README and the documentation show is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/[a-z]*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks of a page run in order, in one namespace, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLC_CACHE", str(tmp_path / "cache"))
    namespace: dict[str, object] = {"__name__": "__main__"}

    for block in blocks(page):
        exec(compile(block, str(page), "exec"), namespace)


def test_the_readme_names_every_command() -> None:
    """Each command that a first-party package offers is told of in the README."""
    from mlc_hooks import Plugins
    from mlc_hooks.choice import Choice

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    plugins = Plugins(strict=True, choice=Choice())
    plugins.load()
    names = {offer.name for offer in plugins.offers("mlc_commands")} - {"plugins"}

    assert names
    assert set() == {name for name in names if f"mlc {name}" not in readme}


def test_every_hook_is_documented() -> None:
    """The page of hooks shows each module that defines some, and each hook has a docstring."""
    page = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")

    for module in sorted(ROOT.glob("packages/*/src/*/hookspecs.py")):
        assert f"automodule:: {module.parent.name}.hookspecs" in page
        source = module.read_text(encoding="utf-8")
        assert source.count("\n@hookspec") == len(re.findall(r'@hookspec\ndef .*?:.*\n    """', source))
