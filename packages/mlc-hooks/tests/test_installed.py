"""What is found in the metadata of distributions that are really there."""

import json
import shutil
import sys

import pytest

from mlc_hooks.installed import describe_distribution

NUTS = """
from mlc_hooks import hookimpl

@hookimpl
def mlc_cakes():
    return {"nut": dict}
"""
SOUPS = """
from mlc_hooks import hookspec

@hookspec
def mlc_soups():
    '''Offer soups.'''
"""


@pytest.fixture
def plugins(plugins):
    """Plugins that know the bakery's hooks."""
    plugins.add_home("bakery")
    return plugins


def list_names(plugins):
    """Return the names of those who take part, without those who always do."""
    return [one.name for one in plugins.list_plugins() if one.name not in {"bakery", "mlc-hooks"}]


def test_installed_plugin_is_found(site, plugins):
    """By its entry point, with the name and version of its distribution."""
    site.install("acme-nuts", NUTS, version="2.1")
    (found,) = [one for one in plugins.list_plugins() if "acme-nuts" == one.name]

    assert "acme-nuts 2.1" == found.distribution
    assert ("mlc_cakes",) == found.hooks
    assert ["acme-nuts:nut", "bakery:plain"] == [one.full_name for one in plugins.offers("mlc_cakes")]


FAULTS = {
    "raise ImportError('no flour')": "ImportError: no flour",
    "import nowhere_to_be_found": "ModuleNotFoundError: No module named 'nowhere_to_be_found'",
    "raise SystemExit(4)": "SystemExit: 4",
    "def": "SyntaxError: invalid syntax",
}


@pytest.mark.parametrize("code", FAULTS)
def test_plugin_that_cannot_be_imported_is_set_aside(site, plugins, code):
    """Whatever its import raises, the others are there."""
    site.install("acme-bad", code)
    site.install("acme-nuts", NUTS)

    assert ["acme-nuts"] == list_names(plugins)
    assert [("acme-bad", "acme-bad 1.0")] == [(one.name, one.distribution) for one in plugins.broken]
    assert plugins.broken[0].reason.startswith(FAULTS[code])


def test_package_whose_hookspecs_cannot_be_imported_is_set_aside(site, plugins):
    """It takes no part at all: half a package would be a riddle."""
    site.install("bistro", NUTS, specs="1 / 0")

    assert [] == list_names(plugins)
    assert ["bistro (bistro 1.0): ZeroDivisionError: division by zero"] == [str(one) for one in plugins.broken]


def test_package_whose_hookspecs_define_nothing_is_set_aside(site, plugins):
    """An announcement of hooks that has none is a mistake."""
    site.install("bistro", NUTS, specs="")

    assert [] == list_names(plugins)
    assert "ValueError: did not find any 'mlc' hooks in" in plugins.broken[0].reason


def test_package_may_define_hooks_and_answer_none(site, plugins):
    """Specs alone are enough for others to answer."""
    site.install("bistro", specs=SOUPS)
    plugins.load()

    assert [] == list_names(plugins)
    assert plugins.is_offer("mlc_soups")


def test_one_module_may_define_and_answer(site, plugins):
    """A function that defines a hook is not mistaken for one that forgot its marker."""
    site.install("bistro", SOUPS + NUTS, entries="[mlc.specs]\nbistro=bistro.hooks\n[mlc]\nbistro=bistro.hooks\n")

    assert ["bistro"] == list_names(plugins)
    assert () == plugins.broken


ENTRIES = {
    "acme = acme.hooks:cakes": "ValueError: its entry point must name a module, not 'acme.hooks:cakes'",
    "cakes = acme.hooks": "ValueError: its entry point must be named 'acme', as its distribution is, not 'cakes'",
    "Acme = acme.hooks": "ValueError: its entry point must be named 'acme', as its distribution is, not 'Acme'",
    "acme = acme.hooks\nacme = acme": "ValueError: it has more than one entry point in one group: acme.hooks, acme",
    "acme = acme.cakes": "ModuleNotFoundError: No module named 'acme.cakes'",
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_entry_point_that_breaks_the_rules_is_set_aside(site, plugins, entry):
    """And its author is told what to write."""
    site.install("acme", NUTS, entries=f"[mlc]\n{entry}\n")

    assert [] == list_names(plugins)
    assert [ENTRIES[entry]] == [one.reason for one in plugins.broken]


def test_distribution_is_named_as_packaging_normalises_it(site, plugins):
    """A distribution with capitals, dots or underscores has a plugin name in lower case with hyphens."""
    site.install("Acme_Nuts", NUTS, entries="[mlc]\nacme-nuts = acme_nuts.hooks\n")

    assert ["acme-nuts"] == list_names(plugins)


def test_name_of_another_distribution_cannot_be_taken(site, plugins):
    """The distribution that has the name keeps it; the other is set aside, whatever comes first on the path."""
    site.install("acme", NUTS)
    site.install("aaa-evil", "raise SystemExit('imported')", entries="[mlc]\nacme = aaa_evil.hooks\n")

    assert ["acme"] == list_names(plugins)
    expected = "its entry point must be named 'aaa-evil', as its distribution is, not 'acme'"
    assert [f"acme (aaa-evil 1.0): ValueError: {expected}"] == [str(one) for one in plugins.broken]


def test_name_of_a_home_cannot_be_taken(site, plugins):
    """Neither can that of a package that defines hooks."""
    site.install("acme", NUTS, entries="[mlc]\nbakery = acme.hooks\n")
    plugins.load()

    assert ["acme 1.0"] == [one.distribution for one in plugins.broken]
    assert ["plain"] == [one.name for one in plugins.offers("mlc_cakes")]


def test_home_that_is_installed_is_there_once(site, plugins):
    """What a package brings itself and what its metadata says are the same."""
    site.install("bistro", NUTS, specs=SOUPS, version="3.0")
    plugins.add_home("bistro")
    plugins.load()
    plugins.add_home("bistro")

    assert () == plugins.broken
    assert ["bistro 3.0"] == [one.distribution for one in plugins.list_plugins() if "bistro" == one.name]


def test_same_distribution_twice_is_there_once(site, plugins, monkeypatch):
    """As when it is installed and its sources are on the path too: the first is used, as `import` does."""
    site.install("acme", NUTS, version="1.0")
    copy = site.path.parent / "copy"
    shutil.copytree(site.path, copy)
    (copy / "acme-1.0.dist-info").rename(copy / "acme.egg-info")
    (copy / "acme.egg-info" / "METADATA").rename(copy / "acme.egg-info" / "PKG-INFO")
    monkeypatch.setattr(sys, "path", [str(copy), *sys.path])

    assert ["acme"] == list_names(plugins)
    assert () == plugins.broken


def test_distribution_without_metadata_is_set_aside(site, plugins):
    """Half of an uninstalled distribution does not stop the others, and two halves are two."""
    site.install("acme-half", NUTS, metadata=False)
    site.install("acme-rest", NUTS, metadata=False)
    site.install("acme-nuts", NUTS)

    assert ["acme-nuts"] == list_names(plugins)
    assert ["acme-half", "acme-rest"] == [one.name for one in plugins.broken]
    assert "ValueError: the metadata of its distribution cannot be read; install it again" == plugins.broken[0].reason


def test_registered_plugin_hides_no_installed_one(site, plugins):
    """One that is installed under the name of one that was registered is set aside, and that is told."""
    site.install("acme", NUTS)
    plugins.register(object(), "acme")

    assert ["registered in this process"] == [one.distribution for one in plugins.list_plugins() if "acme" == one.name]
    assert ["acme (acme 1.0)"] == [str(one).partition(":")[0] for one in plugins.broken]
    assert "a plugin that was registered in this process has its name" in plugins.broken[0].reason


def test_uninstalled_name_is_described_so():
    """A home that runs from a folder has no version."""
    assert "not installed as a distribution" == describe_distribution("bakery-that-is-nowhere")


def test_plugins_are_installed_for_real(site):
    """A new process finds good and broken plugins by itself, and the command says so with its exit status."""
    site.install("acme-nuts", NUTS.replace("mlc_cakes", "mlc_commands"), version="2.1")
    site.install("acme-bad", "import nowhere_to_be_found")
    site.install("acme-idle", "from mlc_hooks import hookimpl\n@hookimpl\ndef mlc_comands():\n    return {}\n")
    process = site.run("plugins", "--json")
    found = {
        kind: {one["name"]: one for one in those if one["name"].startswith("acme")}
        for kind, those in json.loads(process.stdout).items()
        if "left_out" != kind
    }

    assert 1 == process.returncode
    nuts = {
        "name": "acme-nuts",
        "distribution": "acme-nuts 2.1",
        "hooks": ["mlc_commands"],
        "unknown_hooks": [],
        "offers": {"mlc_commands": ["nut"]},
    }
    assert nuts == found["plugins"]["acme-nuts"]
    assert ["mlc_comands"] == found["plugins"]["acme-idle"]["unknown_hooks"]
    assert "ModuleNotFoundError: No module named 'nowhere_to_be_found'" == found["broken"]["acme-bad"]["reason"]
    assert "plugin set aside: acme-bad (acme-bad 1.0): ModuleNotFoundError" in process.stderr
