"""What a plugin's own test suite can inherit: good manners, checked."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

from mlc_hooks.choice import Choice
from mlc_hooks.plugins import Plugins

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
        from importlib.metadata import distribution

        entries = [entry.name for entry in distribution(plugin_name).entry_points if entry.group == "mlc"]

        assert entries == [plugin_name]

    def test_plugin_fits(self, plugin_name: str) -> None:
        """Nothing of it is set aside, and every hook it names exists."""
        plugins = Plugins(strict=True, choice=Choice())
        found = {plugin.name: plugin for plugin in plugins.list_plugins()}

        assert found[plugin_name].unknown_hooks == ()

    def test_plugin_is_light(self, plugin_name: str) -> None:
        """Asking for its offers imports nothing heavy, so that every `mlc` command stays quick."""
        code = (
            "import json, sys; from mlc_hooks import Plugins; plugins = Plugins(strict=True); "
            "hooks = {p.name: p.hooks for p in plugins.list_plugins()}[sys.argv[1]]; "
            "[plugins.offers(hook) for hook in hooks if plugins.is_offer(hook)]; print(json.dumps(sorted(sys.modules)))"
        )
        command = [sys.executable, "-c", code, plugin_name]
        loaded = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

        assert [] == [name for name in self.heavy if name in loaded]

    def test_factories_show_their_options(self, plugin_name: str) -> None:
        """Every factory has a signature and a docstring, so that a wrong option and `--help` can be explained."""
        plugins = Plugins(strict=True, choice=Choice())
        hooks = {plugin.name: plugin.hooks for plugin in plugins.list_plugins()}[plugin_name]
        offers = [offer for hook in hooks if plugins.is_offer(hook) for offer in plugins.offers(hook, home=plugin_name)]

        for offer in offers:
            inspect.signature(offer.factory)
            assert offer.summary, f"{offer.full_name} has no docstring"
