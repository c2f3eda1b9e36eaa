"""What `MLC_PLUGINS` and `MLC_PLUGINS_STRICT` say."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_hooks import Plugins
from mlc_hooks.choice import Choice, read_choice, read_strict
from mlc_hooks.errors import PluginChoiceError

NAMES = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1).filter(lambda name: name[0] != "-")
HOOKS = "from mlc_hooks import hookimpl\n@hookimpl\ndef mlc_commands():\n    return {}\n"
SPECS = "from mlc_hooks import hookspec\n@hookspec\ndef mlc_cakes():\n    ...\n"


@given(st.sets(NAMES), NAMES)
def test_names_are_the_only_ones(names, other):
    """`a,b` admits a and b and nobody else."""
    choice = read_choice({"MLC_PLUGINS": ",".join(names)})

    assert (other in names) == choice.admits(other)
    assert all(choice.admits(name) for name in names)


@given(st.sets(NAMES, min_size=1), NAMES)
def test_minus_is_the_complement(names, other):
    """`-a,-b` admits exactly those whom `a,b` does not."""
    only = read_choice({"MLC_PLUGINS": ",".join(names)})
    without = read_choice({"MLC_PLUGINS": ",".join(f"-{name}" for name in names)})

    assert [not only.admits(name) for name in (*names, other)] == [without.admits(name) for name in (*names, other)]


@given(st.lists(NAMES), st.randoms(use_true_random=False), st.sampled_from(["", " ", "  "]), st.sampled_from(["", "-"]))
def test_order_repetition_and_space_mean_nothing(names, random, space, sign):
    """Any way to write the same names is the same choice."""
    shuffled = random.sample(names, len(names)) + names[:1]
    text = f",{space}".join(f"{space}{sign}{name}{space}" for name in shuffled)

    assert read_choice({"MLC_PLUGINS": ",".join(f"{sign}{name}" for name in names)}) == read_choice(
        {"MLC_PLUGINS": text}
    )


@given(st.sets(NAMES, min_size=1), st.sets(NAMES, min_size=1))
def test_mixed_names_are_refused(names, others):
    """Nobody can tell what `a,-b` should mean for c, so it is an error."""
    text = ",".join([*names, *(f"-{name}" for name in others)])

    with pytest.raises(PluginChoiceError, match="mixes names to use with names to leave out"):
        read_choice({"MLC_PLUGINS": text})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Choice()),
        ({"MLC_PLUGINS": ""}, Choice(only=frozenset())),
        ({"MLC_PLUGINS": " , "}, Choice(only=frozenset())),
        ({"MLC_PLUGINS": "acme"}, Choice(only=frozenset({"acme"}))),
        ({"MLC_PLUGINS": "-acme"}, Choice(without=frozenset({"acme"}))),
        ({"MLC_PLUGINS": "- acme"}, Choice(without=frozenset({"acme"}))),
    ],
)
def test_choice_is_read_as_documented(environment, expected):
    """Unset is all, empty is none, names are only those, a minus is all but."""
    assert expected == read_choice(environment)


@pytest.mark.parametrize(("text", "expected"), [(None, False), ("", False), ("0", False), ("1", True)])
def test_strictness_is_on_or_off(text, expected):
    """`1` is on; `0`, empty and unset are off."""
    assert expected is read_strict({} if text is None else {"MLC_PLUGINS_STRICT": text})


def test_other_strictness_is_refused():
    """A word that might mean either is an error."""
    with pytest.raises(PluginChoiceError, match="MLC_PLUGINS_STRICT='yes' must be 1 or 0"):
        read_strict({"MLC_PLUGINS_STRICT": "yes"})


def test_left_out_plugin_is_not_even_imported(site):
    """A choice keeps a plugin's code out of the process, and `left_out` names it."""
    site.install("acme-good", HOOKS)
    site.install("acme-bad", "raise SystemExit('imported')")
    plugins = Plugins(choice=read_choice({"MLC_PLUGINS": "-acme-bad"}))

    assert ["acme-good", "mlc-hooks"] == [one.name for one in plugins.list_plugins()]
    assert () == plugins.broken
    assert ("acme-bad",) == plugins.left_out


def test_empty_choice_leaves_packages_that_define_hooks(site):
    """`MLC_PLUGINS=` leaves out every plugin, but not those that others answer to."""
    site.install("acme-good", HOOKS)
    site.install("bistro", HOOKS, specs=SPECS)
    plugins = Plugins(choice=read_choice({"MLC_PLUGINS": ""}))

    assert ["bistro", "mlc-hooks"] == [one.name for one in plugins.list_plugins()]


def test_environment_is_the_default(site, monkeypatch):
    """Without arguments, `Plugins` does what the variables say."""
    site.install("acme-good", HOOKS)
    monkeypatch.setenv("MLC_PLUGINS", "")

    assert ["mlc-hooks"] == [one.name for one in Plugins().list_plugins()]


def test_unknown_choice_is_refused_with_what_is_close(site):
    """A typing error in `MLC_PLUGINS` must not silently choose nobody."""
    site.install("acme-good", HOOKS)
    site.install("bistro", HOOKS, specs=SPECS)
    plugins = Plugins(choice=read_choice({"MLC_PLUGINS": "acme-god"}))

    with pytest.raises(PluginChoiceError) as caught:
        plugins.load()

    known = "Did you mean 'acme-good'? Installed: acme-good."
    assert f"MLC_PLUGINS names 'acme-god', which is not an installed plugin. {known}" == str(caught.value)


@pytest.mark.parametrize("text", ["bistro", "-bistro"])
def test_package_that_defines_hooks_cannot_be_chosen(site, text):
    """Others are held against its hooks, so it always takes part."""
    site.install("bistro", HOOKS, specs=SPECS)
    plugins = Plugins(choice=read_choice({"MLC_PLUGINS": text}))

    with pytest.raises(PluginChoiceError, match="names 'bistro', which defines hooks and always takes part"):
        plugins.load()
