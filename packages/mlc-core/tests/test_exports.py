"""What is public is listed, what is listed is there, and nothing heavy comes along."""

import ast
import builtins
import importlib
import json
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import mlc_core
from mlc_core import errors
from mlc_hooks import MlcError

MODULES = ["mlc_core", *sorted(one.name for one in pkgutil.walk_packages(mlc_core.__path__, "mlc_core."))]
if find_spec("torch") is None:  # several processes with one model are several processes with torch
    MODULES = [one for one in MODULES if not one.startswith("mlc_core.distributed")]
LIGHT = {f"mlc_core.distributed.{room}" for room in ("layout", "naming", "opened", "trees")}
WITHOUT_LIST = {"mlc_core.hooks", "mlc_core.hookspecs"}  # functions with a mark are what they offer
HEAVY = ("torch", "numpy", "safetensors", "hypothesis", "pytest")


def imports_of(module, *, at_run_time=True):
    """Return what *module* imports, as pairs of a module and a name in it."""
    tree = ast.parse(Path(importlib.import_module(module).__file__).read_text(encoding="utf-8"))
    if at_run_time:
        tree.body = [one for one in tree.body if not (isinstance(one, ast.If) and "TYPE_CHECKING" in ast.unparse(one))]
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [(node.module, alias.name) for node in found for alias in node.names]


def is_module(name):
    """Say whether *name* can be imported."""
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("module", [one for one in MODULES if one not in WITHOUT_LIST])
def test_list_is_sorted_and_true(module):
    """Each name in `__all__` is there once, and none begins with an underscore."""
    found = importlib.import_module(module)

    assert sorted(set(found.__all__)) == list(found.__all__)
    assert [] == [name for name in found.__all__ if not hasattr(found, name) or name.startswith("_")]


LAZY = {"mlc_core", "mlc_core.distributed"}
ROOMS = [one for one in MODULES if one not in LAZY and hasattr(importlib.import_module(one), "__path__")]


@pytest.mark.parametrize("module", ROOMS)
def test_package_exports_what_it_imports(module):
    """A package's list is what it takes from its rooms, no more and no less."""
    assert sorted(name for _, name in imports_of(module)) == list(importlib.import_module(module).__all__)


@pytest.mark.parametrize("module", MODULES)
def test_only_public_names_cross_between_modules(module):
    """What one module takes from another at run time is in the other's list, or a module itself."""
    taken = [pair for pair in imports_of(module) if pair[0].startswith("mlc_core")]

    assert [] == [
        f"{source}.{name}"
        for source, name in taken
        if name not in importlib.import_module(source).__all__ and not is_module(f"{source}.{name}")
    ]


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_what_the_drawing_says(name):
    """One root, and the built-in that a caller would guess beside it."""
    found = getattr(errors, name)
    lines = [line for line in errors.__doc__.splitlines() if f"─ {name} " in f"{line} "]

    assert [1] == [len(lines)] or found is errors.CheckpointWarning
    for line in lines:
        builtin = line.split(name)[1].split()[:1]
        assert issubclass(found, MlcError)
        assert not builtin or not hasattr(builtins, builtin[0]) or issubclass(found, getattr(builtins, builtin[0]))


def loaded_by(code):
    """Return the heavy modules that are loaded once *code* has run in a process of its own."""
    code += f"\nimport sys, json; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_is_light():
    """Neither the package nor its hooks import torch or NumPy, and `testing` is nobody's burden."""
    rooms = [one for one in MODULES if ".testing" not in one and (".distributed." not in one or one in LIGHT)]

    assert [] == loaded_by("import " + ", ".join(rooms))


def test_saving_and_looking_without_tensors_is_light(tmp_path):
    """Plain data is saved, loaded, listed and verified without them."""
    code = f"""
from mlc_core import CheckpointManager
from mlc_hooks.cli import main
manager = CheckpointManager({str(tmp_path)!r}, "unet")
manager.save_checkpoint(items={{"a": [1, (2,)]}}, epoch=1)
manager.load_checkpoint()
for arguments in (["ls"], ["ls", "--json"], ["verify"]):
    try:
        main(["checkpoints", *arguments, {str(tmp_path)!r}])
    except SystemExit as end:
        assert not end.code
"""
    assert [] == loaded_by(code)


def test_nothing_is_pickled():
    """No module of the package knows how, and none runs code that it is given."""
    for module in MODULES:
        taken = {source.partition(".")[0] for source, _ in imports_of(module, at_run_time=False)}
        source = Path(importlib.import_module(module).__file__).read_text(encoding="utf-8")
        called = {
            node.func.id
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not {"pickle", "marshal", "shelve", "dill"} & taken
        assert not {"eval", "exec", "compile", "__import__"} & called
        if module == "mlc_core.interchange.pickled":
            assert source.count("torch.load(") == source.count("weights_only=True") == 1
        else:
            assert "torch.load" not in source
