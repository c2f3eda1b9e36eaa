"""What is public."""

import importlib
import pkgutil
import types

import pytest

import mlc_registry
from mlc_hooks import MlcError

MODULES = sorted(
    one.name
    for one in pkgutil.walk_packages(mlc_registry.__path__, "mlc_registry.")
    if ".migrations" not in one.name  # steps of Alembic's, imported by it alone
)


@pytest.mark.parametrize("name", MODULES)
def test_module_lists_what_it_defines_for_others(name):
    """`__all__` is sorted and names every public function and class of the module; a docstring says what is in it."""
    if name == "mlc_registry.artifacts.storages":
        pytest.importorskip("mlc_core")
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    defined = [
        each
        for each, value in vars(module).items()
        if isinstance(value, type | types.FunctionType) and value.__module__ == name and not each.startswith("_")
    ]

    assert module.__doc__.splitlines()[0].endswith(".")
    if not name.endswith((".hooks", ".hookspecs")):
        assert [] == sorted(set(defined).difference(listed))
    assert sorted(set(listed)) == sorted(listed)
    assert [] == [each for each in listed if not hasattr(module, each)]


def test_package_exports_what_it_lists():
    """Every name in `mlc_registry.__all__` can be had, and `dir` shows it."""
    assert [] == [name for name in mlc_registry.__all__ if not hasattr(mlc_registry, name)]
    assert set(mlc_registry.__all__) <= set(dir(mlc_registry))


def test_every_error_is_an_mlc_error_and_a_built_in():
    """One class catches all of ours, and whoever guesses a built-in is right as well."""
    from mlc_registry import errors

    kinds = [getattr(errors, name) for name in errors.__all__]
    raised = [kind for kind in kinds if not issubclass(kind, Warning) and kind is not errors.RegistryError]

    assert all(issubclass(kind, errors.RegistryError) and issubclass(kind, MlcError) for kind in raised)
    assert all(kind.__bases__[-1].__module__ == "builtins" for kind in raised)
    assert [] == [kind.__name__ for kind in kinds if kind.__name__ not in errors.__doc__]
