"""Names to things."""

import functools
import importlib.metadata
from types import ModuleType

import pytest

from mlc_hooks import AmbiguousNameError, Catalog, Offer, OptionsError, Plugins, UnknownNameError, hookimpl
from mlc_hooks.choice import Choice


def _bake(flour, /, *, sugar=1, **rest):
    """Bake.

    With care.
    """
    return flour, sugar, rest


@pytest.fixture
def offer(plugins):
    """Register a plugin that offers these cakes: `offer("acme", nut=dict)`."""

    def register(plugin, **cakes):
        module = ModuleType(plugin)
        module.mlc_cakes = hookimpl(lambda: cakes)
        plugins.register(module, plugin)

    return register


@pytest.fixture
def cakes(plugins):
    """The catalog of cakes, whose home offers `plain`."""
    return Catalog("cake", hook="mlc_cakes", home="bakery", plugins=plugins)


def test_thing_is_made_with_its_options(cakes, offer):
    """Arguments and options reach the factory, also one that is called `name`."""
    offer("acme", nut=_bake, plum=dict)

    assert "plain cake with 2 sugar" == cakes.make("plain", sugar=2)
    assert ("rye", 3, {"name": "x"}) == cakes.make("nut", "rye", sugar=3, name="x")
    assert {"name": "x", "self": 1} == cakes.make("acme:plum", name="x", self=1)


def test_wrong_option_says_what_is_taken(cakes, offer):
    """The error names the thing, the option and what its factory takes, before anything is made."""
    made = []
    offer("acme", nut=lambda flour, sugar=1: made.append(flour), salt=lambda: made.append("salt"))

    with pytest.raises(OptionsError) as caught:
        cakes.make("nut", "rye", suger=2)
    assert "cake 'nut': got an unexpected keyword argument 'suger'; it takes: flour, sugar" == str(caught.value)
    with pytest.raises(OptionsError, match="cake 'nut': missing a required argument: 'flour'; it takes: flour, sugar"):
        cakes.make("nut")
    with pytest.raises(OptionsError, match="cake 'salt': too many positional arguments; it takes: no options"):
        cakes.make("salt", 1)
    assert [] == made


def test_error_inside_a_factory_is_its_own(cakes, offer):
    """A `TypeError` that a factory raises is not taken for wrong options."""

    def fail():
        msg = "inside"
        raise TypeError(msg)

    offer("acme", nut=fail)

    with pytest.raises(TypeError, match="inside") as caught:
        cakes.make("nut")
    assert not isinstance(caught.value, OptionsError)


def test_factory_without_a_signature_is_called(cakes, offer):
    """Some factories written in C cannot be asked what they take."""
    offer("acme", nut=dict, plum=getattr)

    assert {"a": 1} == cakes.make("nut", a=1)
    assert dict.get == cakes.make("plum", dict, "get")


def test_unknown_name_says_what_is_close(cakes, offer):
    """A typing error costs one look at the message."""
    offer("acme", carrot=dict)

    with pytest.raises(UnknownNameError) as caught:
        cakes.make("carot")
    assert "Unknown cake 'carot'. Did you mean 'carrot'? Known: carrot, plain." == str(caught.value)
    with pytest.raises(UnknownNameError) as caught:
        cakes.find("xyz")
    assert "Unknown cake 'xyz'. Known: carrot, plain." == str(caught.value)


def test_unknown_name_where_there_is_none(plugins):
    """An empty catalog says that it is empty."""
    with pytest.raises(UnknownNameError, match=r"^Unknown bread 'rye'. Known: none.$"):
        Catalog("bread", hook="mlc_breads", home="bakery", plugins=plugins).find("rye")


def test_unknown_name_tells_of_plugins_that_were_left_out(site):
    """Whoever set `MLC_PLUGINS` long ago is reminded."""
    site.install("acme", "")
    plugins = Plugins(strict=False, choice=Choice(only=frozenset()))
    cakes = Catalog("cake", hook="mlc_cakes", home="bakery", plugins=plugins)

    with pytest.raises(UnknownNameError, match=r"\n  A plugin that might offer it is left out by MLC_PLUGINS: acme$"):
        cakes.find("nut")


def test_ambiguous_name_is_listed_in_full(cakes, offer):
    """What two plugins offer is listed as it must be spelled; what home offers stays short."""
    offer("acme", nut=dict, plain=dict)
    offer("zeta", nut=list, plain=list)

    assert ("acme:nut", "acme:plain", "plain", "zeta:nut", "zeta:plain") == cakes.names()
    assert list is cakes.factory("zeta:nut")
    with pytest.raises(AmbiguousNameError, match="cake 'nut' is offered more than once; say 'acme:nut' or 'zeta:nut'"):
        cakes.factory("nut")


def test_spelling_of_an_offer_is_the_shortest(cakes, offer):
    """One offer is spelled shortly, whoever makes it."""
    offer("acme", nut=dict)

    assert ["nut", "plain"] == [cakes.spell(one) for one in cakes.offers()]
    assert ["acme:nut", "bakery:plain"] == [one.full_name for one in cakes.offers()]


@pytest.mark.parametrize("name", ["plain", "bakery:plain"])
def test_own_name_reads_no_metadata(monkeypatch, name):
    """A run that uses only what a package brings itself pays for nobody else."""

    def refuse(**_):
        raise AssertionError

    monkeypatch.setattr(importlib.metadata, "entry_points", refuse)
    monkeypatch.setattr(importlib.metadata, "distributions", refuse)
    cakes = Catalog("cake", hook="mlc_cakes", home="bakery", plugins=Plugins(strict=False, choice=Choice()))

    assert "plain cake with 1 sugar" == cakes.make(name)
    with pytest.raises(AssertionError):
        cakes.find("nut")


def test_process_has_one_set_of_plugins(site, plugins, monkeypatch):
    """Without `plugins`, a catalog looks among those of the process."""
    monkeypatch.setattr("mlc_hooks.plugins._make_shared", lambda: plugins)
    module = ModuleType("acme")
    module.mlc_cakes = hookimpl(lambda: {"nut": dict})
    plugins.register(module, "acme")

    assert ("nut", "plain") == Catalog("cake", hook="mlc_cakes", home="bakery").names()


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (_bake, "Bake."),
        (functools.partial(functools.partial(_bake, "rye"), sugar=2), "Bake."),
        (lambda: None, ""),
    ],
)
def test_summary_is_the_first_line(factory, expected):
    """It is the factory's own, also when some options are fixed already."""
    assert expected == Offer("nut", "acme", factory).summary
