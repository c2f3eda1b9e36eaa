"""Packages that import their rooms when somebody enters."""

import sys
import types

import pytest

from mlc_hooks.lazy import lazy_exports


@pytest.fixture
def house(tmp_path, monkeypatch):
    """Return a package with a lazy room that counts how often it is entered."""
    package = tmp_path / "mlc_house"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from mlc_hooks.lazy import lazy_exports\n"
        "__getattr__, __dir__ = lazy_exports(__name__, {'kitchen': 'oven table'})\n"
    )
    (package / "kitchen.py").write_text("oven, table = object(), object()\n")
    monkeypatch.syspath_prepend(tmp_path)
    import mlc_house

    yield mlc_house
    for name in [name for name in sys.modules if name.startswith("mlc_house")]:
        del sys.modules[name]


def test_a_room_is_imported_when_somebody_enters(house):
    """Importing the package imports no room; asking for a name does."""
    assert "mlc_house.kitchen" not in sys.modules

    assert house.oven is sys.modules["mlc_house.kitchen"].oven


def test_a_name_is_looked_up_once(house):
    """After that it is an ordinary attribute, as quick as any."""
    oven = house.oven

    assert oven is vars(house)["oven"]


def test_names_are_shown_before_they_are_asked_for(house):
    """`dir`, and so every notebook, shows them."""
    assert {"oven", "table"} <= set(dir(house))


def test_a_wrong_name_is_an_attribute_error(house):
    """As of any module, so that `hasattr` and `from x import y` work."""
    with pytest.raises(AttributeError, match="module 'mlc_house' has no attribute 'bed'"):
        _ = house.bed


def test_it_needs_the_module_to_be_there():
    """It is called from the package that it is for."""
    sys.modules["mlc_shed"] = types.ModuleType("mlc_shed")
    try:
        find, names = lazy_exports("mlc_shed", {})

        assert {"__name__"} <= set(names())
        with pytest.raises(AttributeError):
            find("anything")
    finally:
        del sys.modules["mlc_shed"]
