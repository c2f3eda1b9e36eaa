"""What is public."""

import importlib
import pkgutil
import types

import pytest

import mlc_hooks

MODULES = sorted(f"mlc_hooks.{one.name}" for one in pkgutil.iter_modules(mlc_hooks.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_all_is_what_a_module_defines_for_others(name):
    """`__all__` names every public function and class that the module defines."""
    module = importlib.import_module(name)
    defined = [
        each
        for each, value in vars(module).items()
        if isinstance(value, type | types.FunctionType) and value.__module__ == name and not each.startswith("_")
    ]

    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert [] == sorted(set(defined).difference(module.__all__))
    assert [] == [each for each in module.__all__ if not hasattr(module, each)]


def test_package_exports_what_it_imports():
    """`mlc_hooks.__all__` is every public name in the package that is not a module."""
    public = [
        name
        for name, value in vars(mlc_hooks).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    ]

    assert sorted(public) == sorted(mlc_hooks.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_is_in_it(name):
    """Each room has a sign on its door."""
    assert importlib.import_module(name).__doc__.splitlines()[0].endswith(".")


def test_every_error_is_an_mlc_error_and_a_built_in():
    """One class catches all of ours, and whoever guesses a built-in is right as well."""
    from mlc_hooks import errors

    kinds = [getattr(errors, name) for name in errors.__all__]

    assert all(issubclass(kind, errors.MlcError) for kind in kinds)
    assert {LookupError, TypeError, ValueError, RuntimeError, Exception} == {kind.__bases__[-1] for kind in kinds}
