"""No outcome depends on who came first."""

import importlib.metadata
import itertools
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc_hooks import AmbiguousNameError, Catalog, Plugins, UnknownNameError, hookimpl
from mlc_hooks.choice import Choice

CAKES = st.sampled_from(["plain", "carrot", "nut", "lemon"])
OFFERS = st.sets(CAKES)
FAULTS = st.sampled_from(["raises", "misfit", "wrapper", "no mapping", "colon", "twin"])
TWIN = type("Twin", (), {"mlc_cakes": hookimpl(lambda self: {"twin": str})})()
PLUGINS = st.dictionaries(
    st.sampled_from(["acme-a", "acme-b", "acme-c", "zeta"]), st.one_of(OFFERS, FAULTS), min_size=1
).flatmap(lambda them: st.tuples(st.permutations(list(them.items())), st.permutations(list(them.items()))))


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_installed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "entry_points", lambda *, group: [])
        yield


def make_plugin(offered):
    """Return a plugin that offers these cakes, or that has this fault."""

    class Good:
        @hookimpl
        def mlc_cakes(self):
            return {name: (lambda name=name: name) for name in offered}

    class Raises:
        @hookimpl
        def mlc_cakes(self):
            msg = "no flour"
            raise RuntimeError(msg)

    class Misfit:
        @hookimpl
        def mlc_cakes(self, colour):
            return {"carrot": str}

    class Wrapper:
        @hookimpl(wrapper=True)
        def mlc_cakes(self):
            return (yield)

    class NoMapping:
        @hookimpl
        def mlc_cakes(self):
            return ["carrot"]

    class Colon:
        @hookimpl
        def mlc_cakes(self):
            return {"acme-a:carrot": str}

    faults = {"raises": Raises, "misfit": Misfit, "wrapper": Wrapper, "no mapping": NoMapping, "colon": Colon}
    if "twin" == offered:
        return TWIN  # one object under several names
    return faults.get(offered, Good)() if isinstance(offered, str) else Good()


def find(catalog, name):
    """Return what *name* leads to: an offer or an error, as text."""
    try:
        return catalog.find(name).full_name
    except LookupError as error:
        return f"{type(error).__name__}: {error}"


def describe(them, *, home_first):
    """Return everything that can be seen of plugins that were registered in this order."""
    plugins = Plugins(strict=False, choice=Choice())
    if home_first:
        plugins.add_home("bakery")
    for name, offered in them:
        plugins.register(make_plugin(offered), name)
    cakes = Catalog("cake", hook="mlc_cakes", home="bakery", plugins=plugins)
    cakes.names()
    names = ["plain", "carrot", "nut", "twin", "cake"]
    names += [f"{plugin}:{name}" for plugin, _ in sorted(them) for name in names]
    return {
        "names": cakes.names(),
        "found": {name: find(cakes, name) for name in names},
        "broken": [str(one) for one in plugins.broken],
        "plugins": plugins.list_plugins(),
    }


@settings(max_examples=60)
@given(PLUGINS, st.booleans())
def test_order_of_registration_means_nothing(orders, home_first):
    """Names, what they lead to, errors and who is broken are the same in every order."""
    first, second = orders

    assert describe(first, home_first=True) == describe(second, home_first=home_first)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["acme-a", "zeta"]), OFFERS))
def test_names_lead_where_the_rules_say(offered):
    """Home wins; one offer is found; two are ambiguous and both spellings are named; `plugin:name` always works."""
    plugins = Plugins(strict=True, choice=Choice())
    for name, cakes in offered.items():
        plugins.register(make_plugin(cakes), name)
    catalog = Catalog("cake", hook="mlc_cakes", home="bakery", plugins=plugins)

    assert "bakery:plain" == find(catalog, "plain") == find(catalog, "bakery:plain")
    for cake in ("carrot", "nut", "lemon"):
        spellings = [f"{name}:{cake}" for name in sorted(offered) if cake in offered[name]]
        assert spellings == [find(catalog, spelling) for spelling in spellings]
        if not spellings:
            with pytest.raises(UnknownNameError):
                catalog.find(cake)
        elif 1 == len(spellings):
            assert spellings[0] == find(catalog, cake)
        else:
            with pytest.raises(AmbiguousNameError) as caught:
                catalog.find(cake)
            expected = f"cake {cake!r} is offered more than once; say {spellings[0]!r} or {spellings[1]!r}"
            assert expected == str(caught.value)


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["acme-a", "acme-b", "zeta"]), OFFERS))
def test_listed_names_can_be_made(offered):
    """Every name that `names` gives is unique, makes something, and every offer is reachable by one of them."""
    plugins = Plugins(strict=True, choice=Choice())
    for name, cakes in offered.items():
        plugins.register(make_plugin(cakes), name)
    catalog = Catalog("cake", hook="mlc_cakes", home="bakery", plugins=plugins)
    names = catalog.names()

    assert sorted(set(names)) == list(names)
    assert {offer.full_name for offer in catalog.offers()} == {catalog.find(name).full_name for name in names}
    assert all(catalog.make(name) for name in names)


HOOKS = "from mlc_hooks import hookimpl\n@hookimpl\ndef mlc_cakes():\n    return {{{names}}}\n"
SPECS = "from mlc_hooks import hookspec\n@hookspec\ndef {hook}():\n    ...\n"


def test_order_of_the_path_means_nothing(site, monkeypatch):
    """Installed plugins come to the same, wherever they are on `sys.path`."""
    folder, outcomes, path = site.path, [], sys.path
    for name, names in (("acme-a", "'carrot': str, 'nut': str"), ("acme-b", "'nut': str, 'plain': str"), ("zeta", "1")):
        site.path = folder / name
        site.install(name, HOOKS.format(names=names))
    for order in itertools.permutations(["acme-a", "acme-b", "zeta"]):
        monkeypatch.setattr(sys, "path", [*(str(folder / name) for name in order), *path])
        plugins = Plugins(strict=False, choice=Choice())
        cakes = Catalog("cake", hook="mlc_cakes", home="bakery", plugins=plugins)
        outcomes.append((cakes.names(), find(cakes, "nut"), [str(one) for one in plugins.broken]))

    assert [outcomes[0]] * 6 == outcomes
    assert ("acme-a:nut", "acme-b:nut", "acme-b:plain", "carrot", "plain") == outcomes[0][0]


def test_hook_that_two_packages_define_belongs_to_neither(site, plugins):
    """Both are set aside and name each other; first come would depend on the path."""
    site.install("bistro", specs=SPECS.format(hook="mlc_soups"))
    site.install("canteen", specs=SPECS.format(hook="mlc_soups"))
    plugins.load()

    assert ["bistro", "canteen"] == [one.name for one in plugins.broken]
    expected = (
        "ValueError: it defines the hook mlc_soups, which canteen also defines; only one of them can be installed"
    )
    assert expected == plugins.broken[0].reason


@pytest.mark.parametrize("home_first", [True, False])
def test_home_keeps_its_hooks(site, plugins, home_first):
    """A package that others import keeps the hooks that an installed one defines again, in either order."""
    site.install("canteen", specs=SPECS.format(hook="mlc_cakes"))
    if home_first:
        plugins.add_home("bakery")
    plugins.load()
    plugins.add_home("bakery")

    assert ["canteen"] == [one.name for one in plugins.broken]
    assert ["plain"] == [offer.name for offer in plugins.offers("mlc_cakes")]


@pytest.mark.parametrize("load_first", [True, False])
@pytest.mark.parametrize("homes", [("bistro", "canteen"), ("canteen", "bistro"), ("canteen", "bistro", "canteen")])
def test_homes_that_define_one_hook_are_both_set_aside(site, plugins, homes, load_first):
    """Two homes with one hook come to the same in any order."""
    for name in ("bistro", "canteen"):
        site.install(name, HOOKS.format(names=""), specs=SPECS.format(hook="mlc_soups"))
    if load_first:
        plugins.load()
    for home in homes:
        plugins.add_home(home)
    plugins.load()

    assert ["bistro", "canteen"] == [one.name for one in plugins.broken]
    assert ["mlc-hooks"] == [one.name for one in plugins.list_plugins()]
    with pytest.raises(UnknownNameError, match="A plugin that might offer it is broken: bistro"):
        plugins.offers("mlc_soups")


def test_own_commands_cannot_be_defined_again(site, plugins):
    """The front door's hook is the front door's."""
    site.install("canteen", specs=SPECS.format(hook="mlc_commands"))
    plugins.load()

    assert ["canteen"] == [one.name for one in plugins.broken]
    assert plugins.is_offer("mlc_commands")
