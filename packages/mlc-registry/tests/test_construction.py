"""A class with its configuration, published and constructed again, and nothing imported that was not allowed."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_registry import Architecture, ConstructionError, CorruptArtifactError, ModelRegistry, UncheckedClassWarning
from mlc_registry.construction.classes import _is_allowed, describe_class

# Most tests publish classes that must not be imported by whoever publishes them.
pytestmark = pytest.mark.filterwarnings("ignore::mlc_registry.errors.UncheckedClassWarning")

WORD = st.sampled_from(["a", "ab", "b", "torch"])
DOTTED = st.lists(WORD, min_size=1, max_size=3).map(".".join)

MODULE = """
import math
import subprocess

print("imported")


class Net:
    def __init__(self, width, *, depth=2, blocks=()):
        self.width, self.depth, self.blocks = width, depth, blocks

    class Inner:
        def __init__(self):
            self.found = True


class Picky(Net):
    def __init__(self, width):
        if width > 8:
            raise ValueError("too wide")


class Reader:
    def load_weights(self, path):
        self.content = path.read_text()


class Deaf:
    pass


def make(width):
    return Net(width)


Alias = Net
lazy = lambda width: Net(width)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a package that can be imported, and is no more afterwards; importing it prints something."""
    (tmp_path / "libs" / "medicalnets").mkdir(parents=True)
    (tmp_path / "libs" / "medicalnets" / "__init__.py").write_text("")
    (tmp_path / "libs" / "medicalnets" / "networks.py").write_text(MODULE)
    (tmp_path / "libs" / "medicalnets" / "outward.py").write_text("from decimal import Decimal\n")
    monkeypatch.syspath_prepend(tmp_path / "libs")
    yield "medicalnets.networks"
    for name in [name for name in sys.modules if name.startswith("medicalnets")]:
        del sys.modules[name]


@pytest.fixture
def networks(module):
    """That module."""
    import importlib

    return importlib.import_module(module)


# ------------------------------------------------------------------ publishing


def test_document_runs(registry, networks):
    """As the source document has it: `register(name, version, model_cls, config)`, then `load(name, version)`."""
    published = registry.register("net", "2.0.0", networks.Net, {"width": 4, "blocks": (1, 2)})
    model = registry.load("net", "2.0.0", model_cls=networks.Net)

    assert Architecture(model_class="medicalnets.networks:Net", config={"width": 4, "blocks": [1, 2]}) == (
        published.architecture
    )
    assert ["model.json"] == [one.path for one in registry.list_files("net", "2.0.0")]
    assert (networks.Net, 4, 2, [1, 2]) == (type(model), model.width, model.depth, model.blocks)
    assert published == registry.register("net", "2.0.0", networks.Net, {"width": 4, "blocks": (1, 2)})


def test_class_within_a_class(registry, networks):
    """Has a name, too."""
    registry.register("net", "1.0.0", networks.Net.Inner)

    assert registry.load("net", allow=("medicalnets",)).found


def test_class_that_nobody_could_import_is_refused(registry, networks, monkeypatch):
    """With what to do; nothing is published."""

    class Local:
        pass

    script = type("Script", (), {"__module__": "__main__"})
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    hidden = type("Hidden", (), {"__module__": networks.__name__})
    renamed = networks.Alias
    cases = {
        Local: "inside of a function",
        script: "in the script that runs",
        hidden: "is not what medicalnets.networks has under that name",
        networks.lazy: "model_cls is a lambda",
        networks.make: "'make', a function",
        networks.Net(1): "'Net', a Net",
        "__main__:Net": "in the script that runs",
        "medicalnets.networks.Net": "names no class; write 'package.module:Class'",
        "medicalnets:Net()": "names no class",
        "../x:Net": "names no class",
    }
    for model_cls, part in cases.items():
        with pytest.raises(ConstructionError, match=part.replace("(", r"\(").replace(")", r"\)")):
            registry.register("net", "1.0.0", model_cls, {})
    assert [] == list(registry.list_models())
    assert (
        "medicalnets.networks:Net" == registry.register("net", "1.0.0", renamed, {"width": 1}).architecture.model_class
    )


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({}, "missing a required argument: 'width'"),
        ({"widht": 1}, "Did you mean 'width'"),
        ({"width": 1, "dept": 2}, "Did you mean 'depth'"),
        ({"width": object()}, r"config\['width'\] cannot be kept"),
        ({"width": float("nan")}, "JSON has no nan"),
        ([("width", 1)], "config must be a mapping"),
    ],
)
def test_configuration_that_cannot_be_used_is_refused(registry, networks, config, part):
    """Before anything is published."""
    with pytest.raises(ConstructionError, match=part):
        registry.register("net", "1.0.0", networks.Net, config)
    assert [] == list(registry.list_models())


def test_named_class_is_imported_only_if_allowed(registry, module, monkeypatch, capsys):
    """Else its name is believed: whoever publishes need not have it installed."""
    with pytest.warns(UncheckedClassWarning, match="nobody has looked whether medicalnets.networks:Net is a class"):
        registry.register("net", "1.0.0", "medicalnets.networks:Net", {"anything": 1})
    assert "" == capsys.readouterr().out
    monkeypatch.setenv("MLC_ALLOWED_CLASSES", "medicalnets, notthere")

    with pytest.raises(ConstructionError, match="does not take config"):
        registry.register("net", "2.0.0", "medicalnets.networks:Net", {"anything": 1})
    with pytest.raises(ConstructionError, match="is no class"):
        registry.register("net", "2.0.0", "medicalnets.networks:Nett", {})
    registry.register("net", "2.0.0", "notthere.networks:Net", {"anything": 1})


# ------------------------------------------------------------------ loading


@given(where=DOTTED, allowed=DOTTED)
def test_packages_end_at_dots(where, allowed):
    """`medical` allows `medical.networks`, and never `medical_evil`."""
    inside = where.split(".")[: allowed.count(".") + 1] == allowed.split(".")

    assert inside == _is_allowed(f"{where}:Net", [allowed])
    assert _is_allowed(f"{where}:Net", [f"{where}:Net"])
    assert not _is_allowed(f"{where}:Net", [f"{where}:Other"])


@pytest.mark.parametrize(
    "options",
    [{}, {"allow": ("medical",)}, {"allow": ("medicalnets.network",)}, {"allow": ("medicalnets.networks:Ne",)}],
)
def test_nothing_is_imported_that_is_not_allowed(registry, module, capsys, options):
    """Not even the package; the error says every way out."""
    registry.register("net", "1.0.0", f"{module}:Net", {"width": 1})
    with pytest.raises(ConstructionError, match=r"pass allow=\('medicalnets',\), model_cls=.* MLC_ALLOWED_CLASSES="):
        registry.load("net", **options)

    assert "" == capsys.readouterr().out
    assert "medicalnets" not in sys.modules


@pytest.mark.parametrize(
    "options",
    [
        {"allow": ("medicalnets",)},
        {"allow": "medicalnets"},
        {"allow": ("medicalnets.networks",)},
        {"allow": ("medicalnets.networks:Net",)},
        {"model_cls": "medicalnets.networks:Net"},
    ],
)
def test_what_is_allowed_is_constructed(registry, module, options):
    """By package, module, class, or because it was said to be that class."""
    registry.register("net", "1.0.0", f"{module}:Net", {"width": 3})

    assert 3 == registry.load("net", **options).width


def test_environment_allows(registry, module, monkeypatch):
    """Several, separated by commas."""
    registry.register("net", "1.0.0", f"{module}:Net", {"width": 3})
    monkeypatch.setenv("MLC_ALLOWED_CLASSES", " other ,medicalnets,")

    assert 3 == registry.load("net").width


@pytest.mark.parametrize("allow", [("*",), ("medicalnets.*",), ("",), ("a b",), ("medicalnets:",)])
def test_what_names_no_package_is_refused(registry, module, allow):
    """There is no way to allow everything."""
    registry.register("net", "1.0.0", f"{module}:Net", {"width": 3})
    with pytest.raises(ConstructionError, match="cannot be allowed"):
        registry.load("net", allow=allow)


@pytest.mark.parametrize(
    ("where", "part"),
    [
        ("medicalnets.networks:subprocess.Popen", "is no class"),
        ("medicalnets.networks:math", "is no class"),
        ("medicalnets.networks:make", "is no class"),
        ("medicalnets.networks:lazy", "is no class"),
        ("medicalnets.networks:Nett", "Did you mean 'Net'"),
        ("medicalnets.outward:Decimal", "which comes from decimal, and importing that is not allowed"),
        ("medicalnets.nowhere:Net", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_allowed_package_leads_nowhere_else(registry, module, where, part):
    """No function, no module that it imports, no class of another package."""
    registry.register("net", "1.0.0", where, {})
    with pytest.raises(ConstructionError, match=part):
        registry.load("net", allow=("medicalnets",))


def test_given_class_must_be_the_one(registry, networks):
    """Another one is refused, whatever it is called."""
    registry.register("net", "1.0.0", networks.Net, {"width": 1})
    with pytest.raises(ConstructionError, match=r"is a medicalnets\.networks:Net, and model_cls is .*:Picky"):
        registry.load("net", model_cls=networks.Picky)
    registry.register("net", "2.0.0", "medicalnets.networks:Alias", {"width": 5})

    assert 5 == registry.load("net", model_cls=networks.Net).width


def test_version_without_a_class(registry, weights):
    """Says how to use it all the same."""
    registry.register_model("net", "1.0.0", weights())
    with pytest.raises(ConstructionError, match="was published without its class; take its files with get_model_path"):
        registry.load("net", allow=("medicalnets",))


def test_class_that_changed_is_refused(registry, module):
    """Its signature or what it does at construction no longer fits the configuration."""
    registry.register("net", "1.0.0", f"{module}:Net", {"breadth": 1})
    registry.register("net", "2.0.0", f"{module}:Picky", {"width": 9})

    with pytest.raises(ConstructionError, match=r"Net does not take config \{'breadth': 1\}"):
        registry.load("net", "1.0.0", allow=("medicalnets",))
    with pytest.raises(ConstructionError, match="ValueError: too wide"):
        registry.load("net", "2.0.0", model_cls=f"{module}:Picky")


# ------------------------------------------------------------------ objects of other frameworks


def test_object_may_load_its_own_weights(registry, networks, weights):
    """It gets the path of what was published, once that was hashed."""
    registry.register("net", "1.0.0", networks.Reader, path=weights("abc"))
    assert "abc" == registry.load("net", model_cls=networks.Reader).content
    path = registry.get_model_path("net")
    path.chmod(0o644)
    path.write_text("abd")

    with pytest.raises(CorruptArtifactError):
        registry.load("net", model_cls=networks.Reader)
    assert "abd" == registry.load("net", model_cls=networks.Reader, verify=False).content


def test_object_that_takes_no_weights_is_refused(registry, networks, weights):
    """It would be a model without them."""
    registry.register("net", "1.0.0", networks.Deaf, path=weights("abc"))
    with pytest.raises(ConstructionError, match=r"Deaf has neither load_state_dict\(state\) nor load_weights\(path\)"):
        registry.load("net", model_cls=networks.Deaf)


def test_class_from_the_command_line(mlc, root, weights, module):
    """With its configuration, as JSON where it is."""
    status, _, _ = mlc(
        "registry", "register", "net", "1.0.0", weights(), "--class", f"{module}:Reader", "--registry", root
    )
    assert 0 == status
    options = ("--class", f"{module}:Net", "--config", "width=3", "--config", "name=a", "--registry", root)
    assert 0 == mlc("registry", "register", "net", "1.1.0", weights("b"), *options)[0]
    with ModelRegistry(root) as registry:
        assert {"width": 3, "name": "a"} == registry.get("net", "1.1.0").architecture.config
    status, _, err = mlc("registry", "register", "net", "1.2.0", weights("b"), "--config", "a=1", "--registry", root)
    assert (2, True) == (status, "say which, with --class" in err)


def test_description_needs_no_registry(networks):
    """It is what the record holds."""
    assert Architecture(model_class="medicalnets.networks:Net", config={"width": 1}) == describe_class(
        networks.Net, {"width": 1}
    )


@pytest.mark.slow
def test_torch_stays_out_until_weights_come(run_python, root):
    """A registry answers every question without it."""
    code = """
    import fractions, sys
    from mlc_registry import ModelRegistry

    with ModelRegistry(sys.argv[1]) as registry:
        registry.register("net", "1.0.0", "fractions:Fraction", {"numerator": 3})
        print(registry.load("net", allow=("fractions",)), registry.releases.changelog("net").until)
    assert "torch" not in sys.modules and "safetensors" not in sys.modules
    """
    assert "3 1.0.0\n" == run_python(code, root)
