"""What a plugin's own test suite can inherit: good manners, checked."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib.metadata import distribution
from typing import TYPE_CHECKING

import click
import pytest

from mlc_hooks.choice import Choice
from mlc_hooks.installed import find_plugins
from mlc_hooks.plugins import Plugins

if TYPE_CHECKING:
    from mlc_hooks.records import Offer

__all__ = ["PluginContract"]


class PluginContract:
    """What holds for every well-mannered plugin. Subclass it and give the fixture `plugin_name`.

    Installed packages only: the contract reads the entry points that users will.
    """

    heavy = ("torch", "numpy", "matplotlib", "sqlalchemy", "mlflow", "boto3", "obstore", "transformers")
    """Packages that a plugin may use inside its factories, and must not import to make an offer."""

    @pytest.fixture
    def plugin_name(self) -> str:
        """Return the name of the distribution; override this."""
        msg = "give the fixture plugin_name"
        raise NotImplementedError(msg)

    def test_plugin_is_found_under_its_distribution_name(self, plugin_name: str) -> None:
        """The word that users block, qualify and uninstall is one word."""
        entries = [entry.name for entry in distribution(plugin_name).entry_points if entry.group == "mlc"]

        assert [plugin_name] == entries

    def test_plugin_fits(self, plugin_name: str) -> None:
        """It answers hooks, every hook that it answers exists, and nothing of it is set aside."""
        plugins = _load_alone(plugin_name)
        _list_offers(plugins, plugin_name)
        found = {plugin.name: plugin for plugin in plugins.list_plugins()}

        assert [] == [one.reason for one in plugins.broken if one.name == plugin_name]
        assert () == found[plugin_name].unknown_hooks
        assert found[plugin_name].hooks, f"{plugin_name} answers no hook; are its functions marked with @hookimpl?"

    def test_plugin_is_light(self, plugin_name: str) -> None:
        """Asking for its offers imports nothing heavy, so that every `mlc` command stays quick."""
        code = "import sys; from mlc_hooks.testing import _print_imports; _print_imports(sys.argv[1])"
        process = subprocess.run([sys.executable, "-c", code, plugin_name], check=False, capture_output=True, text=True)

        assert 0 == process.returncode, process.stderr
        assert [] == sorted(set(self.heavy).intersection(json.loads(process.stdout.splitlines()[-1])))

    def test_factories_show_their_options(self, plugin_name: str) -> None:
        """Every factory has a signature and a docstring, so that a wrong option and `--help` can be explained."""
        for offer in _list_offers(_load_alone(plugin_name), plugin_name):
            inspect.signature(offer.factory)

            assert offer.summary, f"{offer.full_name} has no docstring"


def _load_alone(name: str) -> Plugins:
    """Return the plugin *name* and the packages that define hooks: no other plugin matters here."""
    is_fixed = any(entry.group == "mlc.specs" for entry in distribution(name).entry_points)
    plugins = Plugins(strict=False, choice=Choice(only=frozenset(() if is_fixed else (name,))))
    plugins.load()
    return plugins


def _list_offers(plugins: Plugins, name: str) -> list[Offer]:
    hooks = {plugin.name: plugin.hooks for plugin in plugins.list_plugins()}.get(name, ())
    return [offer for hook in hooks if plugins.is_offer(hook) for offer in plugins.offers(hook, home=name)]


def _print_imports(name: str) -> None:
    """Print what the plugin *name* imports, without what the packages import that define hooks."""
    before = set(sys.modules)
    for found in find_plugins():
        if found.name == name:
            found.load()
    imported = set(sys.modules) - before
    plugins = _load_alone(name)
    before = set(sys.modules)
    _list_offers(plugins, name)
    click.echo(json.dumps(sorted(imported | set(sys.modules) - before)))
