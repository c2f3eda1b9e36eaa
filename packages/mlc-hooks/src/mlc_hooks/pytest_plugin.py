"""Fixtures for authors of plugins; pytest finds them by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mlc_hooks.plugins import Plugins

__all__ = ["mlc_installed", "mlc_plugins"]

pytest.register_assert_rewrite("mlc_hooks.testing")  # or a contract that fails could not say why


@pytest.fixture
def mlc_plugins() -> Plugins:
    """The packages that define hooks and no other plugin, where the first fault raises: register yours."""
    from mlc_hooks.choice import Choice  # imported late, or coverage would miss the package's own lines
    from mlc_hooks.plugins import Plugins

    return Plugins(strict=True, choice=Choice(only=frozenset()))


@pytest.fixture
def mlc_installed() -> Plugins:
    """All installed plugins, where the first fault raises."""
    from mlc_hooks.choice import Choice
    from mlc_hooks.plugins import Plugins

    plugins = Plugins(strict=True, choice=Choice())
    plugins.load()
    return plugins
