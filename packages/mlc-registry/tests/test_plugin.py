"""The registry is a well-mannered plugin itself."""

import pytest

from mlc_hooks.testing import PluginContract


class TestPlugin(PluginContract):
    """What holds for every plugin."""

    heavy = (*PluginContract.heavy, "alembic", "rich", "mlc_core", "mlc_losses")

    @pytest.fixture
    def plugin_name(self):
        """Name the distribution."""
        return "mlc-registry"
