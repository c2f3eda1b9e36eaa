"""What authors of plugins get for their own tests."""

import pytest

from mlc_hooks.testing import PluginContract

GOOD = """
from mlc_hooks import hookimpl

@hookimpl
def mlc_commands():
    return {"bake": make_bake}

def make_bake():
    '''Bake.'''
"""
ILL = """
import acme_heavy
from mlc_hooks import hookimpl

@hookimpl
def mlc_commands():
    return {"bake": lambda: None}

@hookimpl
def mlc_comands():
    return {}
"""
MANNERS = """
import pytest
from mlc_hooks.testing import PluginContract

class TestManners(PluginContract):
    heavy = (*PluginContract.heavy, "acme_heavy")

    @pytest.fixture
    def plugin_name(self):
        return "acme"
"""


class TestOwnManners(PluginContract):
    """The front door goes through the front door."""

    @pytest.fixture
    def plugin_name(self):
        """Return our own name."""
        return "mlc-hooks"


@pytest.fixture
def run_pytest(site, pytester, monkeypatch):
    """Run a test module where what the test installs is installed; `apart` is in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(site.path))

    def run(code, *, apart=False):
        pytester.makepyfile(code)
        if apart:
            return pytester.runpytest_subprocess("-p", "no:cacheprovider")
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "mlc_hooks.pytest_plugin")

    return run


def test_contract_passes_for_a_good_plugin(site, run_pytest):
    """A plugin that keeps the rules passes, whatever else is installed."""
    site.install("acme", GOOD)
    site.install("acme-bad", "1 / 0")

    run_pytest(MANNERS, apart=True).assert_outcomes(passed=4)


def test_contract_finds_bad_manners(site, run_pytest):
    """Heavy imports, a hook that does not exist and a factory without a docstring are found."""
    site.install("acme", ILL)
    (site.path / "acme_heavy.py").write_text("")
    result = run_pytest(MANNERS)

    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines_random(["*mlc_comands*", "*acme_heavy*", "*acme:bake has no docstring*"])


def test_contract_finds_a_plugin_that_is_set_aside(site, run_pytest):
    """The reason is in the report."""
    site.install("acme", "1 / 0", entries="[mlc]\nacme = acme.hooks\ncakes = acme.hooks\n")
    result = run_pytest(MANNERS)

    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines_random(["*ZeroDivisionError*", "*'cakes'*"])


def test_contract_finds_a_plugin_that_answers_nothing(site, run_pytest):
    """A module whose functions are not marked takes part without effect."""
    site.install("acme", "")
    result = run_pytest(MANNERS)

    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*acme answers no hook; are its functions marked with @hookimpl[?]*"])


def test_contract_asks_for_a_name(run_pytest):
    """Who forgets the fixture is told so."""
    result = run_pytest("from mlc_hooks.testing import PluginContract\nclass TestManners(PluginContract):\n    ...\n")

    result.assert_outcomes(errors=4)
    result.stdout.fnmatch_lines(["*NotImplementedError: give the fixture plugin_name"])


def test_fixture_gives_plugins_without_the_installed_ones(site, run_pytest):
    """`mlc_plugins` knows only packages that define hooks, and is strict."""
    site.install("acme", "1 / 0")
    result = run_pytest("""
        import pytest
        from mlc_hooks import PluginError, hookimpl

        class Cakes:
            @hookimpl
            def mlc_commands(self):
                return {"bake": dict}

        class Bad:
            @hookimpl
            def mlc_commands(self, colour):
                return {}

        def test_own_plugin(mlc_plugins):
            mlc_plugins.register(Cakes(), "mine")
            assert "acme" not in {one.name for one in mlc_plugins.list_plugins()}
            assert "mine:bake" in {one.full_name for one in mlc_plugins.offers("mlc_commands")}

        def test_misfit(mlc_plugins):
            with pytest.raises(PluginError):
                mlc_plugins.register(Bad(), "mine")
    """)

    result.assert_outcomes(passed=2)


def test_fixture_gives_installed_plugins(site, run_pytest):
    """`mlc_installed` has them all."""
    site.install("acme", GOOD)

    run_pytest(
        """
        def test_acme_is_there(mlc_installed):
            assert "acme" in {one.name for one in mlc_installed.list_plugins()}
    """,
        apart=True,
    ).assert_outcomes(passed=1)


def test_fixture_of_installed_plugins_is_strict(site, run_pytest):
    """A broken plugin is an error there, whatever the environment says."""
    site.install("acme", "1 / 0")
    result = run_pytest("def test_never(mlc_installed): ...")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*PluginError: plugin acme (acme 1.0): ZeroDivisionError: division by zero"])
