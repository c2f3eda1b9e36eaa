"""Small distributions that are really installed, in a folder of their own, and a package that defines hooks."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from typing import TYPE_CHECKING

import pytest

from mlc_hooks.choice import Choice
from mlc_hooks.plugins import Plugins

if TYPE_CHECKING:
    from pathlib import Path

BAKERY_SPECS = """
from mlc_hooks import hookspec

@hookspec
def mlc_cakes():
    '''Offer cakes.'''

@hookspec
def mlc_breads():
    '''Offer breads.'''

@hookspec
def mlc_cake_sold(cake, price):
    '''Hear of a cake that was sold.'''
"""

BAKERY_HOOKS = """
from mlc_hooks import hookimpl

@hookimpl
def mlc_cakes():
    return {"plain": bake_plain}

def bake_plain(sugar=1):
    '''Bake a plain cake.'''
    return f"plain cake with {sugar} sugar"
"""


class Site:
    """A folder of installed distributions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, name: str, hooks: str | None = None, *, specs: str | None = None, **more: object) -> None:
        """Install the distribution *name* with its `hooks` and `hookspecs` modules and their entry points.

        *more*: `version`, `package` (code of its `__init__`), `entries` (the text of `entry_points.txt`), `metadata`.
        """
        package, version = name.replace("-", "_").lower(), more.get("version", "1.0")
        folder, information = self.path / package, self.path / f"{package}-{version}.dist-info"
        folder.mkdir(parents=True, exist_ok=True)
        information.mkdir()
        modules = {"__init__": more.get("package", ""), "hooks": hooks, "hookspecs": specs}
        entries = ""
        for module, group in (("hookspecs", "mlc.specs"), ("hooks", "mlc")):
            if modules[module] is not None:
                entries += f"[{group}]\n{name} = {package}.{module}\n"
        for module, code in modules.items():
            if code is not None:
                (folder / f"{module}.py").write_text(textwrap.dedent(str(code)))
        (information / "entry_points.txt").write_text(textwrap.dedent(str(more.get("entries", entries))))
        if more.get("metadata", True):
            (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        importlib.invalidate_caches()

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `mlc` with *arguments* in a process of its own, where all of this is installed."""
        script = shutil.which("mlc", path=sysconfig.get_path("scripts"))
        assert script is not None
        return self._run(script, *arguments, **environment)

    def run_python(self, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run *code* in a process of its own, where all of this is installed."""
        return self._run(sys.executable, "-c", textwrap.dedent(code), **environment)

    def run_module(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m` with *arguments* in a process of its own, where all of this is installed."""
        return self._run(sys.executable, "-m", *arguments)

    def _run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLC_")}
        environment = {**inherited, "PYTHONPATH": str(self.path), **environment}
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.fixture(autouse=True, scope="session")
def bakery(tmp_path_factory):
    """The package `bakery`, which defines hooks and offers one cake; it can be imported but is not installed."""
    folder = tmp_path_factory.mktemp("bakery")
    package = folder / "bakery"
    package.mkdir()
    for name, code in {"__init__": "", "hookspecs": BAKERY_SPECS, "hooks": BAKERY_HOOKS}.items():
        (package / f"{name}.py").write_text(code)
    sys.path.insert(0, str(folder))
    yield package
    sys.path.remove(str(folder))
    _forget_modules(folder)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An empty folder of distributions, and nothing else is installed as far as this process can see."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(importlib.metadata, "entry_points", _read_entry_points)
    monkeypatch.setattr(importlib.metadata, "distributions", _find_distributions(folder))
    for name in ("MLC_PLUGINS", "MLC_PLUGINS_STRICT"):
        monkeypatch.delenv(name, raising=False)
    yield Site(folder)
    _forget_modules(tmp_path)


@pytest.fixture
def plugins(site):
    """Plugins that set aside what fails, where only what the test installs is installed."""
    return Plugins(strict=False, choice=Choice())


def _find_distributions(folder):
    """Return a `distributions` that looks in *folder* and in whatever the test puts before it."""
    found = importlib.metadata.distributions

    def distributions():
        return found(path=sys.path[: sys.path.index(str(folder)) + 1])

    return distributions


def _read_entry_points(*, group):
    return [entry for one in importlib.metadata.distributions() for entry in one.entry_points if group == entry.group]


def _forget_modules(folder):
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
