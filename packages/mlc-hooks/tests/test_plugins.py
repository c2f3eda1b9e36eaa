"""Who takes part, who is set aside, and who is told."""

import functools
import logging
import sys
import threading
from types import ModuleType

import pytest

from mlc_hooks import Catalog, PluginError, Plugins, UnknownNameError, hookimpl, hookspec
from mlc_hooks import plugins as room
from mlc_hooks.choice import Choice

NUTS = """
from mlc_hooks import hookimpl

@hookimpl
def mlc_cakes():
    return {"nut": dict}
"""

TWICE = """
from mlc_hooks import hookimpl
asked = []

@hookimpl
def mlc_soups():
    asked.append(1)
    if len(asked) == 1:
        raise OSError
    return {"onion": dict}
"""


class _Carrots:
    """Offers one cake."""

    @hookimpl
    def mlc_cakes(self):
        return {"carrot": dict}


class _Raises:
    @hookimpl
    def mlc_cakes(self):
        msg = "no\nflour"
        raise RuntimeError(msg)


class _Exits:
    @hookimpl
    def mlc_cakes(self):
        sys.exit(3)


class _Speechless:
    """Raises an error that cannot even be printed."""

    @hookimpl
    def mlc_cakes(self):
        class SpeechlessError(Exception):
            def __str__(self):
                raise ValueError

        raise SpeechlessError


class _NoMapping:
    @hookimpl
    def mlc_cakes(self):
        return ["carrot"]


class _Nothing:
    @hookimpl
    def mlc_cakes(self):
        """Forget to return."""


class _NoFactory:
    @hookimpl
    def mlc_cakes(self):
        return {"carrot": "cake"}


class _NoName:
    @hookimpl
    def mlc_cakes(self):
        return {None: dict}


class _Colon:
    @hookimpl
    def mlc_cakes(self):
        return {"acme:carrot": dict}


class _UnknownFact:
    @hookimpl
    def mlc_cake_sold(self, colour):
        """Ask for what nobody tells."""


class _UnknownKeyword:
    @hookimpl
    def mlc_cake_sold(self, *, colour):
        """Ask for what nobody tells, by keyword."""


class _Unnamed:
    @hookimpl
    def mlc_cake_sold(self, cake, /):
        """Take a fact by position, though facts have names."""


class _Wrapper:
    @hookimpl(wrapper=True)
    def mlc_cakes(self):
        return (yield)


class _OldWrapper:
    @hookimpl(hookwrapper=True)
    def mlc_cakes(self):
        yield


class _Async:
    @hookimpl
    async def mlc_cake_sold(self, cake):
        """Never run."""


class _Yields:
    @hookimpl
    def mlc_cake_sold(self, cake):
        """Never run."""
        yield


class _Twice:
    @hookimpl
    def mlc_cakes(self):
        return {}

    @hookimpl(specname="mlc_cakes")
    def more_cakes(self):
        return {}


class _Unmarked:
    def mlc_cakes(self):
        return {}


WRAPS = "is marked as a wrapper; a plugin may offer and listen, not change others' answers"
FAULTS = {
    _Raises: "RuntimeError: no flour",
    _Exits: "SystemExit: 3",
    _Speechless: "SpeechlessError",
    _NoMapping: "TypeError: mlc_cakes() must return a mapping of names to factories, not ['carrot']",
    _Nothing: "TypeError: mlc_cakes() must return a mapping of names to factories, not None",
    _NoFactory: "TypeError: mlc_cakes() offers 'carrot' with 'cake', which is not a factory: it cannot be called",
    _NoName: "ValueError: mlc_cakes() offers None; a name is text without a colon, which is for `plugin:name`",
    _Colon: "ValueError: mlc_cakes() offers 'acme:carrot'; a name is text without a colon, which is for `plugin:name`",
    _Unnamed: "TypeError: mlc_cake_sold(cake, /): missing a required argument: 'cake'; "
    "the hook is mlc_cake_sold(cake, price)",
    _Wrapper: f"TypeError: mlc_cakes {WRAPS}",
    _OldWrapper: f"TypeError: mlc_cakes {WRAPS}",
    _Async: "TypeError: mlc_cake_sold is async or yields, so calling it would do nothing; write a plain function",
    _Yields: "TypeError: mlc_cake_sold is async or yields, so calling it would do nothing; write a plain function",
    _Twice: "TypeError: mlc_cakes is answered by two functions; write one",
    _Unmarked: "TypeError: mlc_cakes has the name of a hook but is not marked with @hookimpl",
}


@pytest.fixture
def plugins(plugins):
    """Plugins that know the bakery's hooks."""
    plugins.add_home("bakery")
    return plugins


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_plugin_is_set_aside(plugins, caplog, fault):
    """A plugin that does not fit or fails is named with its reason, once in the log, and the others go on."""
    plugins.register(fault(), "acme-fault")
    plugins.register(_Carrots(), "acme-good")
    with pytest.raises(UnknownNameError) as caught:
        Catalog("cake", hook="mlc_cakes", home="bakery", plugins=plugins).find("nut")
    plugins.offers("mlc_cakes")

    assert ["carrot", "plain"] == sorted(offer.name for offer in plugins.offers("mlc_cakes"))
    assert ["acme-good", "bakery", "mlc-hooks"] == [one.name for one in plugins.list_plugins()]
    line = f"acme-fault (registered in this process): {FAULTS[fault]}"
    assert [line] == [str(one) for one in plugins.broken]
    assert [f"plugin set aside: {line}"] == [record.getMessage() for record in caplog.records]
    assert f"Known: carrot, plain.\n  A plugin that might offer it is broken: {line}" in str(caught.value)


def test_listener_that_asks_for_an_unknown_fact_is_set_aside(plugins):
    """The reason shows the function's own signature."""
    plugins.register(_UnknownFact(), "acme-fault")

    assert "hookimpl definition: mlc_cake_sold(colour)" in plugins.broken[0].reason


def test_listener_that_asks_for_an_unknown_keyword_is_set_aside(plugins):
    """Facts that must be given by keyword are facts too."""
    plugins.register(_UnknownKeyword(), "acme-fault")

    assert plugins.broken[0].reason.startswith("TypeError: mlc_cake_sold(*, colour): missing a required ")
    assert plugins.broken[0].reason.endswith(" argument: 'colour'; the hook is mlc_cake_sold(cake, price)")


@pytest.mark.parametrize("fault", [_UnknownFact, _Wrapper, _Unmarked])
def test_strict_register_raises_and_forgets(site, fault):
    """With strictness a misfit never comes in, and its name stays free."""
    plugins = Plugins(strict=True, choice=Choice())
    plugins.add_home("bakery")
    with pytest.raises(PluginError, match=r"^plugin acme \(registered in this process\): "):
        plugins.register(fault(), "acme")
    plugins.register(_Carrots(), "acme")

    assert () == plugins.broken
    assert ["carrot", "plain"] == sorted(offer.name for offer in plugins.offers("mlc_cakes"))


def test_strict_offer_raises_every_time(site):
    """With strictness a failing offer raises, again and again, with its cause."""
    plugins = Plugins(strict=True, choice=Choice())
    plugins.add_home("bakery")
    plugins.register(_Raises(), "acme")

    for _ in range(2):
        with pytest.raises(PluginError, match="RuntimeError: no flour") as caught:
            plugins.offers("mlc_cakes")
        assert isinstance(caught.value.__cause__, RuntimeError)


def test_strict_load_raises_every_time(site):
    """Whoever survives the first error cannot go on as if nothing had happened."""
    site.install("acme-bad", "import nowhere_to_be_found")
    site.install("acme-good", NUTS)
    plugins = Plugins(strict=True, choice=Choice())

    for _ in range(2):
        with pytest.raises(PluginError, match=r"acme-bad 1.0\): ModuleNotFoundError: No module named 'nowhere_to"):
            plugins.load()


@pytest.mark.parametrize("place", ["offer", "listener", "import"])
def test_keyboard_interrupt_passes(site, plugins, place):
    """Whoever presses Ctrl-C means us too; the next attempt starts afresh."""

    class Interrupted:
        @hookimpl
        def mlc_breads(self):
            raise KeyboardInterrupt

        @hookimpl
        def mlc_cake_sold(self):
            raise KeyboardInterrupt

    if "import" == place:
        site.install("acme", "raise KeyboardInterrupt")
    else:
        plugins.register(Interrupted(), "acme")
    action = {
        "offer": lambda: plugins.offers("mlc_breads"),
        "listener": lambda: plugins.tell("mlc_cake_sold", cake="nut", price=1),
        "import": plugins.load,
    }[place]

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            action()
    assert () == plugins.broken


def test_name_can_be_taken_once(plugins):
    """A plugin is never replaced silently."""
    plugins.register(_Carrots(), "acme")

    with pytest.raises(PluginError, match="a plugin named 'acme' takes part already; register this one under another"):
        plugins.register(_Carrots(), "acme")


def test_plugin_that_was_set_aside_can_be_mended(plugins):
    """In a notebook, register the next attempt under the same name."""
    plugins.register(_Unmarked(), "acme")
    plugins.register(_Raises(), "acme")
    plugins.offers("mlc_cakes")
    plugins.register(_Carrots(), "acme")

    assert () == plugins.broken
    assert ["carrot", "plain"] == sorted(offer.name for offer in plugins.offers("mlc_cakes"))


def test_second_fault_is_told_too(plugins, caplog):
    """A plugin that is registered again and still does not fit is in the log again."""
    plugins.register(_Unmarked(), "acme")
    plugins.register(_Twice(), "acme")

    assert ["not marked", "two functions"] == [
        word for one in caplog.messages for word in ("not marked", "two functions") if word in one
    ]


def test_home_cannot_be_replaced(plugins):
    """Nobody takes the name of a package that defines hooks, before or after it comes in."""
    with pytest.raises(PluginError, match="'bakery' takes part already"):
        plugins.register(_Carrots(), "bakery")

    late = Plugins(strict=False, choice=Choice())
    late.register(_Carrots(), "bakery")
    with pytest.raises(PluginError, match="'bakery', which is the name of a package that defines hooks"):
        late.add_home("bakery")


def test_home_that_cannot_be_imported_is_not_half_in(plugins):
    """The caller sees the import error, each time."""
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError):
            plugins.add_home("string")


def test_home_that_fails_keeps_its_hooks(site, plugins):
    """A package whose own offer fails is set aside, and others may still answer its hooks."""
    site.install(
        "bistro",
        "from mlc_hooks import hookimpl\n@hookimpl\ndef mlc_soups():\n    return 1 / 0\n",
        specs="from mlc_hooks import hookspec\n@hookspec\ndef mlc_soups():\n    ...\n",
    )

    class Soup:
        @hookimpl
        def mlc_soups(self):
            return {"onion": dict}

    plugins.register(Soup(), "acme")
    for home in ("bistro", "bistro"):
        soups = Catalog("soup", hook="mlc_soups", home=home, plugins=plugins)
        assert ("onion",) == soups.names()
    assert ["bistro"] == [one.name for one in plugins.broken]
    assert "ZeroDivisionError: division by zero" == plugins.broken[0].reason


def test_failure_while_offering_takes_back_other_offers(plugins):
    """_Nothing of a plugin that was set aside can be had any more."""

    class Half(_Carrots):
        @hookimpl
        def mlc_breads(self):
            raise LookupError

    plugins.register(Half(), "acme")
    before = [offer.name for offer in plugins.offers("mlc_cakes")]
    plugins.offers("mlc_breads")

    assert ["carrot", "plain"] == sorted(before)
    assert ["plain"] == [offer.name for offer in plugins.offers("mlc_cakes")]


def test_plugin_may_bring_another(plugins):
    """One who registers another while being asked does not make us forget the other."""

    class Friendly:
        @hookimpl
        def mlc_cakes(self):
            if "friend" not in {one.name for one in plugins.list_plugins()}:
                plugins.register(_Carrots(), "friend")
            return {"nut": dict}

    plugins.register(Friendly(), "acme")

    assert ["carrot", "nut", "plain"] == sorted(offer.name for offer in plugins.offers("mlc_cakes"))


def test_late_failure_does_not_hit_who_came_instead(plugins):
    """A plugin that fails after it was set aside and mended leaves the mended one alone."""
    asked = []

    class Slow:
        @hookimpl
        def mlc_cakes(self):
            asked.append(self)
            if 1 == len(asked):
                plugins.offers("mlc_cakes")  # as another thread would, and this one fails at once
                plugins.register(_Carrots(), "acme")
            raise OSError

    plugins.register(Slow(), "acme")

    assert ["carrot", "plain"] == sorted(offer.name for offer in plugins.offers("mlc_cakes"))
    assert () == plugins.broken


def test_home_that_comes_in_by_itself_is_asked_again(site, plugins):
    """What its entry point brought was set aside; what the package brings itself counts, and is not called broken."""
    site.install("bistro", TWICE, specs="from mlc_hooks import hookspec\n@hookspec\ndef mlc_soups():\n    ...\n")
    plugins.load()
    before = plugins.offers("mlc_soups")
    soups = Catalog("soup", hook="mlc_soups", home="bistro", plugins=plugins)

    assert () == before
    assert ("onion",) == soups.names()
    assert () == plugins.broken


def test_offer_is_a_copy(plugins):
    """A plugin that empties its mapping later takes nothing away."""
    cakes = {"carrot": dict}

    class Fickle:
        @hookimpl
        def mlc_cakes(self):
            return cakes

    plugins.register(Fickle(), "acme")
    plugins.offers("mlc_cakes")
    cakes.clear()

    assert ["carrot", "plain"] == sorted(offer.name for offer in plugins.offers("mlc_cakes"))


def test_same_module_under_two_names_takes_part_once(plugins):
    """The first by name is in; the other is told whose twin it is."""
    module = ModuleType("twin")
    plugins.register(module, "zeta")
    plugins.register(module, "acme")

    assert ["zeta"] == [one.name for one in plugins.broken]
    assert "ValueError: it is the same module or object as plugin acme" == plugins.broken[0].reason


def test_home_is_never_taken_for_a_twin(plugins):
    """Whoever registers a home's own module under another name is the twin, also with an earlier name."""
    plugins.register(sys.modules["bakery.hooks"], "aaa")

    assert ["aaa"] == [one.name for one in plugins.broken]
    assert ["bakery:plain"] == [offer.full_name for offer in plugins.offers("mlc_cakes")]


# ---------------------------------------------------------------------- events


class _Listener:
    """Remembers what it was told, by those of the facts that it names."""

    def __init__(self):
        self.heard = []


class _Curious(_Listener):
    @hookimpl
    def mlc_cake_sold(self, cake, *, price=0, waiter="nobody"):
        self.heard.append((cake, price, waiter))


class _Deaf(_Listener):
    @hookimpl
    def mlc_cake_sold(self):
        self.heard.append(())


class _Failing(_Listener):
    @hookimpl
    def mlc_cake_sold(self, cake):
        self.heard.append(cake)
        raise OSError(cake)


class _Leaving(_Failing):
    @hookimpl
    def mlc_cake_sold(self, cake):
        self.heard.append(cake)
        raise SystemExit(cake)


def test_listeners_take_only_the_facts_they_name(plugins):
    """Also those that have a default, which would otherwise silently stay what they are."""
    curious, deaf = _Curious(), _Deaf()
    plugins.register(curious, "acme-curious")
    plugins.register(deaf, "acme-deaf")
    plugins.tell("mlc_cake_sold", cake="nut", price=3)

    assert [("nut", 3, "nobody")] == curious.heard
    assert [()] == deaf.heard


@pytest.mark.parametrize("kind", [_Failing, _Leaving])
def test_failing_listener_is_logged_and_told_again(plugins, caplog, kind):
    """A tracker's bad minute ends neither its career nor the run, and the others are told."""
    failing, curious = kind(), _Curious()
    plugins.register(failing, "acme")
    plugins.register(curious, "zeta")
    plugins.tell("mlc_cake_sold", cake="nut", price=1)
    plugins.tell("mlc_cake_sold", cake="plum", price=2)

    assert ["nut", "plum"] == failing.heard
    assert [("nut", 1, "nobody"), ("plum", 2, "nobody")] == curious.heard
    assert () == plugins.broken
    assert [logging.WARNING] * 2 == [record.levelno for record in caplog.records]
    assert caplog.messages[0].startswith("plugin acme failed when told mlc_cake_sold: ")
    assert caplog.records[0].exc_info is not None


def test_strict_event_raises(site):
    """With strictness a failing listener is an error that names it."""
    plugins = Plugins(strict=True, choice=Choice())
    plugins.add_home("bakery")
    plugins.register(_Failing(), "acme")

    with pytest.raises(PluginError, match="plugin acme failed when told mlc_cake_sold: OSError: nut"):
        plugins.tell("mlc_cake_sold", cake="nut", price=1)


def test_listeners_are_told_in_order_of_their_names(plugins):
    """Not of their registration, and `tryfirst` changes nothing."""
    told = []

    def make(name, **options):
        function = hookimpl(**options)(lambda: told.append(name))
        module = ModuleType(name)
        module.mlc_cake_sold = function
        return module

    plugins.register(make("zeta", tryfirst=True), "zeta")
    plugins.register(make("acme", trylast=True), "acme")
    plugins.register(make("mid"), "mid")
    plugins.tell("mlc_cake_sold", cake="nut", price=1)

    assert ["acme", "mid", "zeta"] == told
    assert ["acme", "mid", "zeta"] == [name for name, _ in plugins.listeners("mlc_cake_sold")]


def test_event_reaches_installed_plugins(site, plugins):
    """To tell is a reason to look for who is installed."""
    site.install(
        "acme", "from mlc_hooks import hookimpl\nheard = []\nmlc_cake_sold = hookimpl(lambda cake: heard.append(cake))"
    )
    plugins.tell("mlc_cake_sold", cake="nut", price=1)

    assert ["nut"] == sys.modules["acme.hooks"].heard


@pytest.mark.parametrize("facts", [{}, {"cake": "nut"}, {"cake": "nut", "price": 1, "colour": "red"}])
def test_event_is_told_with_its_facts(plugins, facts):
    """A teller who forgets or invents a fact hears of it, and no listener is blamed."""
    with pytest.raises(TypeError, match=r"mlc_cake_sold\(cake, price\) cannot be told with "):
        plugins.tell("mlc_cake_sold", **facts)


@pytest.mark.parametrize("action", ["offers", "tell", "listeners"])
def test_hook_that_nobody_defines_is_an_error(plugins, action):
    """A typing error in a hook's name would otherwise never be noticed."""
    with pytest.raises(UnknownNameError) as caught:
        getattr(plugins, action)("mlc_cake")

    expected = (
        "No package defines the hook 'mlc_cake'. Did you mean 'mlc_cakes'? "
        "Known: mlc_breads, mlc_cake_sold, mlc_cakes, mlc_commands."
    )
    assert expected == str(caught.value)
    assert not plugins.is_offer("mlc_cake")


def test_event_cannot_be_asked_for_offers(plugins):
    """Listeners would be called without facts and set aside for it."""
    with pytest.raises(TypeError, match=r"mlc_cake_sold\(cake, price\) is an event; it is told, not asked for offers"):
        plugins.offers("mlc_cake_sold")
    assert not plugins.is_offer("mlc_cake_sold")
    assert plugins.is_offer("mlc_cakes")


def test_fact_may_be_called_hook(plugins):
    """No name of ours stands in the way of a fact."""
    spec = ModuleType("hookspecs")
    spec.mlc_called = hookspec(lambda hook, self: None)
    heard = []
    answer = ModuleType("hooks")
    answer.mlc_called = hookimpl(lambda hook: heard.append(hook))
    plugins._settle({"acme": room.Candidate("acme", answer, spec, "acme 1.0")}, {})
    plugins.tell("mlc_called", hook="crook", self=None)

    assert ["crook"] == heard


def test_unknown_hooks_are_reported_and_optional_ones_are_not(plugins):
    """A typing error shows in the list; a hook of a package that may be absent does not."""
    module = ModuleType("acme")
    module.mlc_cake_slod = hookimpl(lambda cake: None)
    module.mlc_teas = hookimpl(optionalhook=True)(lambda: None)
    module.mlc_breads = hookimpl(lambda: None)
    plugins.register(module, "acme")
    (found,) = [one for one in plugins.list_plugins() if "acme" == one.name]

    assert ("mlc_breads",) == found.hooks
    assert ("mlc_cake_slod",) == found.unknown_hooks
    assert "registered in this process" == found.distribution


# ---------------------------------------------------------------------- threads


def run_together(*functions):
    """Run *functions* in threads that start at once, and return what they return; fail if one hangs."""
    barrier, results = threading.Barrier(len(functions)), {}

    def run(index, function):
        barrier.wait()
        results[index] = function()

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    return [results[index] for index in range(len(functions))]


def test_threads_may_load_at_once(site, plugins):
    """Each sees all plugins, and no module is imported twice."""
    site.install(
        "acme",
        NUTS + "import time\ntime.sleep(0.1)\n",
    )
    site.install("acme-bad", "import time\ntime.sleep(0.05)\n1 / 0")

    def look():
        plugins.load()
        return [offer.name for offer in plugins.offers("mlc_cakes")], len(plugins.broken)

    assert [(["nut", "plain"], 1)] * 4 == run_together(look, look, look, look)


def test_failing_offer_is_set_aside_once(plugins, caplog):
    """Two threads that ask at once do not set one plugin aside twice."""
    asked = threading.Barrier(2)

    class Slow:
        @hookimpl
        def mlc_cakes(self):
            asked.wait(timeout=10)
            raise OSError

    plugins.register(Slow(), "acme")

    assert [["plain"]] * 2 == run_together(*[lambda: [one.name for one in plugins.offers("mlc_cakes")]] * 2)
    assert 1 == len(caplog.records) == len(plugins.broken)


def test_import_in_another_thread_cannot_deadlock(site, monkeypatch):
    """Loading holds no lock of ours while a module is imported that may want it."""
    started, plugins = threading.Event(), Plugins(strict=False, choice=Choice())
    site.install("acme", "import acme.slow")
    (site.path / "acme" / "slow.py").write_text(
        "import time, sys\n"
        "sys.modules['acme_started'].set()\n"
        "time.sleep(0.2)\n"
        "plugins = sys.modules['acme_plugins']\n"
        "plugins.add_home('bakery')\n"
        "plugins.broken\n"
    )

    def load():
        started.wait(timeout=10)
        plugins.load()
        return "loaded"

    def import_slow():
        import acme.slow

        return acme.slow.__name__

    monkeypatch.setitem(sys.modules, "acme_started", started)
    monkeypatch.setitem(sys.modules, "acme_plugins", plugins)

    assert ["loaded", "acme.slow"] == run_together(load, import_slow)


def test_plugin_that_loads_plugins_while_imported_comes_in_whole(site, plugins, monkeypatch):
    """It sees who was here before, not itself half imported, and nobody is asked too early."""
    site.install(
        "acme",
        "import sys\nsys.modules['acme_plugins'].load()\n" + NUTS,
    )
    monkeypatch.setitem(sys.modules, "acme_plugins", plugins)
    plugins.load()

    assert ["nut", "plain"] == [offer.name for offer in plugins.offers("mlc_cakes")]


def test_threads_share_one_object(site, monkeypatch):
    """Were there two, a plugin registered with one would be missing in the other."""

    def make():
        threading.Event().wait(0.05)
        return Plugins(strict=False, choice=Choice())

    monkeypatch.setattr(room, "_make_shared", functools.cache(make))
    found = run_together(*[room.shared] * 4)

    assert 1 == len({id(one) for one in found})
