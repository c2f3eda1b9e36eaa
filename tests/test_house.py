"""The shape of the repository: what each package has, and what moves together."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))


def project(package: Path) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_is_whole(package: Path) -> None:
    """It has a licence, a README, types, tests, and its own entry in the change notes."""
    module = package / "src" / package.name.replace("-", "_")

    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert len((package / "README.md").read_text(encoding="utf-8").splitlines()) > 10
    assert (module / "py.typed").is_file()
    assert (module / "errors.py").is_file()
    assert list((package / "tests").glob("test_*.py"))
    assert list((ROOT / "changelog.d" / package.name).glob("*.md")) or (ROOT / "CHANGELOG.md").read_text().count("## ")


def test_versions_move_together() -> None:
    """While they are 0.x, all packages have one version, and ask for each other by it."""
    versions = {project(package)["version"] for package in PACKAGES}

    assert len(versions) == 1
    wanted = f"~={versions.pop()}"
    for package in PACKAGES:
        siblings = [one for one in project(package)["dependencies"] if one.startswith("mlc-")]  # type: ignore[attr-defined]
        assert all(one.endswith(wanted) for one in siblings), package.name


def test_hookspecs_are_free_at_run_time() -> None:
    """A module of hookspecs imports the markers and nothing else that costs anything."""
    for module in ROOT.glob("packages/*/src/*/hookspecs.py"):
        lines = [
            line for line in module.read_text(encoding="utf-8").splitlines() if line.startswith(("import", "from"))
        ]
        allowed = ("from __future__", "from typing", "from mlc_hooks")
        assert [] == [line for line in lines if not line.startswith(allowed)], module


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_exports_are_the_same_for_people_and_checkers(package: Path) -> None:
    """What a type checker sees imported, what `__all__` lists and what can be had are the same names, sorted."""
    module = importlib.import_module(package.name.replace("-", "_"))
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    own = [
        node
        for node in imports
        if str(node.module).startswith(f"{module.__name__}.") and node.module != "mlc_hooks.lazy"
    ]
    seen = sorted(alias.name for node in own for alias in node.names)

    assert sorted(module.__all__) == seen
    assert [] == [name for name in module.__all__ if not hasattr(module, name)]
