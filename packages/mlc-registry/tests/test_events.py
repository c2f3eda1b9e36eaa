"""What listeners hear, and when."""

import pytest

from mlc_hooks import Plugins, hookimpl, plugins
from mlc_hooks.choice import Choice
from mlc_registry import ModelRegistry, StageConflictError, VersionExistsError


class Listener:
    """Writes down what it hears, and looks whether it is true already."""

    def __init__(self, root):
        self.heard = []
        self._root = root

    @hookimpl
    def mlc_model_registered(self, model, path):
        """Hear of a version."""
        with ModelRegistry(self._root) as registry:
            self.heard.append((model == registry.get(model.model, model.version), path.read_text()))

    @hookimpl
    def mlc_model_promoted(self, model, before, after):
        """Hear of a stage."""
        with ModelRegistry(self._root) as registry:
            assert (after,) == tuple(registry.stages(model.model))
        self.heard.append((str(model.version), before and str(before.version), str(after.version), after.reason))


@pytest.fixture
def listener(root, monkeypatch):
    """The only plugin there is, beside the registry itself."""
    alone = Plugins(strict=True, choice=Choice(only=frozenset()))
    alone.add_home("mlc_registry")
    listener = Listener(root)
    alone.register(listener, "listener")
    monkeypatch.setattr(plugins, "_make_shared", lambda: alone)
    return listener


def test_listeners_hear_what_is_done(listener, registry, weights):
    """After the commit, with the version, its files, and the stage before and after."""
    registry.register_model("net", "1.0.0", weights("one"))
    registry.register_model("net", "1.1.0", weights("two"))
    registry.promote("net", "1.0.0", "production", reason="first")
    registry.promote("net", "1.1.0", "production")
    registry.rollback("net", "production", reason="drift")

    assert [
        (True, "one"),
        (True, "two"),
        ("1.0.0", None, "1.0.0", "first"),
        ("1.1.0", "1.0.0", "1.1.0", ""),
        ("1.0.0", "1.1.0", "1.0.0", "drift"),
    ] == listener.heard


def test_listeners_hear_nothing_of_what_is_not_done(listener, registry, weights):
    """A repetition, a refusal and a conflict are no news."""
    registry.register_model("net", "1.0.0", weights("one"))
    registry.register_model("net", "1.0.0", weights("one"))
    with pytest.raises(VersionExistsError):
        registry.register_model("net", "1.0.0", weights("two"))
    with pytest.raises(StageConflictError):
        registry.promote("net", "1.0.0", "production", expected="1.0.0")

    assert [(True, "one")] == listener.heard
