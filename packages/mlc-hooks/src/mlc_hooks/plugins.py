"""The one plugin manager of a process: who is here, what they offer, and telling them what happened."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pluggy

from mlc_hooks import installed
from mlc_hooks.choice import Choice, read_choice, read_strict
from mlc_hooks.errors import PluginError
from mlc_hooks.markers import PROJECT
from mlc_hooks.records import Broken, Offer, Plugin

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from pluggy import HookImpl

__all__ = ["Plugins", "shared"]

log = logging.getLogger("mlc_hooks")

# What running somebody else's code may raise and still leave us standing.
FAILURES = (Exception, SystemExit)


class Plugins:
    """The plugins of one process or one test.

    A plugin that cannot be imported, does not fit a hook or raises while it makes an offer is set aside: it is named
    in `broken`, and the rest goes on. With *strict*, it raises `PluginError` instead.

    Args:
        strict: Raise where a plugin would be set aside. The default is what `MLC_PLUGINS_STRICT` says.
        choice: Which installed plugins may take part. The default is what `MLC_PLUGINS` says.
    """

    def __init__(self, *, strict: bool | None = None, choice: Choice | None = None) -> None:
        self._strict = read_strict() if strict is None else strict
        self._choice = read_choice() if choice is None else choice
        self._lock = threading.RLock()
        self._specs: dict[str, ModuleType | None] = {}
        self._plugins: dict[str, object] = {}
        self._distributions: dict[str, str] = {}
        self._broken: dict[str, Broken] = {}
        self._offers: dict[str, tuple[Offer, ...]] = {}
        self._loaded = False
        self._manager = pluggy.PluginManager(PROJECT)
        self.add_home("mlc_hooks")

    # ------------------------------------------------------------------ who takes part

    def add_home(self, package: str) -> None:
        """Let *package*, which defines hooks, take part with its own `hookspecs` and `hooks` modules.

        This is how a package finds its own parts without reading the metadata of every installed distribution.
        """
        name = package.replace("_", "-")
        with self._lock:
            if name not in self._specs:
                self._specs[name] = import_module(f"{package}.hookspecs")
                self._plugins.setdefault(name, import_module(f"{package}.hooks"))
                self._rebuild()

    def register(self, plugin: object, name: str) -> None:
        """Let *plugin*, a module or an object with marked methods, take part as *name*.

        For notebooks and tests; an installed plugin is found by its entry point.

        Raises:
            PluginError: If there is a plugin of that name already, or, when strict, if it does not fit.
        """
        with self._lock:
            if name in self._plugins:
                msg = f"a plugin named {name!r} takes part already; register this one under another name"
                raise PluginError(msg)
            self._broken.pop(name, None)
            self._plugins[name] = plugin
            self._distributions[name] = "registered in this process"
            self._rebuild()

    def load(self) -> None:
        """Find the installed plugins, once: packages that define hooks first, then all others by name.

        Raises:
            PluginChoiceError: If `MLC_PLUGINS` cannot be followed.
            PluginError: If a plugin fails and strictness was asked for.
        """
        with self._lock:
            if self._loaded:
                return
            specs, plugins = installed.entry_points("mlc.specs"), installed.entry_points("mlc")
            self._choice.check(installed=plugins, fixed=specs)
            for name, found in specs.items():
                self._distributions[name] = found.distribution
                self._specs.setdefault(name, self._import(name, found))
            for name, found in plugins.items():
                self._distributions.setdefault(name, found.distribution)
                if name not in self._plugins and (name in specs or self._choice.admits(name)):
                    self._plugins[name] = self._import(name, found)
            self._loaded = True
            self._rebuild()

    # ------------------------------------------------------------------ asking and telling

    def offers(self, hook: str, *, home: str | None = None) -> tuple[Offer, ...]:
        """Return what the plugins known so far offer for *hook*, or only what *home* does, sorted by plugin.

        `load` is the caller's decision: a name that its own package offers can be found without it.
        """
        with self._lock:
            if hook not in self._offers:
                asked = [(one.plugin_name, self._ask(one)) for one in self._answers(hook)]
                self._offers[hook] = tuple(
                    Offer(name, plugin, factory) for plugin, names in asked for name, factory in names.items()
                )
            return tuple(offer for offer in self._offers[hook] if home is None or offer.plugin == home)

    def tell(self, hook: str, **facts: object) -> None:
        """Tell every plugin that listens to *hook* what happened.

        A listener that raises is logged with its name and told again next time: an event reports what is done, and
        no listener can undo it. When strict, it raises `PluginError`.
        """
        for plugin, listener in self.listeners(hook):
            try:
                listener(**facts)
            except FAILURES as error:
                if self._strict:
                    msg = f"plugin {plugin} failed when told {hook}: {_reason(error)}"
                    raise PluginError(msg) from error
                log.warning("plugin %s failed when told %s: %s", plugin, hook, _reason(error), exc_info=error)

    def listeners(self, hook: str) -> tuple[tuple[str, Callable[..., object]], ...]:
        """Return the plugins that listen to *hook*, as names and functions that take all its facts by keyword."""
        self.load()
        with self._lock:
            return tuple((one.plugin_name, _call_with_wanted(one)) for one in self._answers(hook))

    def is_offer(self, hook: str) -> bool:
        """Say whether *hook* asks for offers: an offer is asked with no arguments, an event tells facts."""
        caller = getattr(self._manager.hook, hook, None)
        return caller is not None and caller.spec is not None and not caller.spec.argnames

    # ------------------------------------------------------------------ who is here

    @property
    def broken(self) -> tuple[Broken, ...]:
        """The plugins that were set aside, sorted by name."""
        return tuple(self._broken[name] for name in sorted(self._broken))

    def list_plugins(self) -> tuple[Plugin, ...]:
        """Return all plugins in use, installed ones included, sorted by name."""
        self.load()
        return tuple(self._describe(name) for name in sorted(self._plugins))

    def _describe(self, name: str) -> Plugin:
        callers = self._manager.get_hookcallers(self._plugins[name]) or []
        known = sorted(caller.name for caller in callers if caller.has_spec())
        unknown = sorted(
            caller.name
            for caller in callers
            if not caller.has_spec()
            and not all(one.optionalhook for one in caller.get_hookimpls() if one.plugin_name == name)
        )
        return Plugin(name, self._distribution(name), tuple(known), tuple(unknown))

    def _distribution(self, name: str) -> str:
        return self._distributions.get(name) or installed.describe_distribution(name)

    # ------------------------------------------------------------------ the inside

    def _answers(self, hook: str) -> list[HookImpl]:
        caller = getattr(self._manager.hook, hook, None)
        answers = [] if caller is None else caller.get_hookimpls()
        return sorted(answers, key=lambda one: one.plugin_name)  # never by order of installation

    def _ask(self, answer: HookImpl) -> Mapping[str, Callable[..., Any]]:
        try:
            offered: object = answer.function()
            if not isinstance(offered, Mapping) or not all(
                isinstance(name, str) and callable(factory) for name, factory in offered.items()
            ):
                msg = f"{answer.function.__name__}() must return a mapping of names to factories, not {offered!r}"
                raise TypeError(msg)
        except FAILURES as error:
            self._set_aside(answer.plugin_name, error)
            self._rebuild()
            return {}
        return offered

    def _import(self, name: str, found: installed.Found) -> ModuleType | None:
        try:
            return found.load()
        except FAILURES as error:
            self._set_aside(name, error)
            return None

    def _set_aside(self, name: str, error: BaseException) -> None:
        broken = Broken(name, self._distribution(name), _reason(error), error)
        if self._strict:
            msg = f"plugin {broken}"
            raise PluginError(msg) from error
        log.warning("plugin set aside: %s", broken)
        self._broken[name] = broken
        self._plugins.pop(name, None)

    def _rebuild(self) -> None:
        """Fill a fresh manager: hooks first, so that every plugin is held against all of them."""
        self._offers.clear()
        self._plugins = {name: plugin for name, plugin in self._plugins.items() if plugin is not None}
        manager = pluggy.PluginManager(PROJECT)
        for specs in self._specs.values():
            if specs is not None:
                manager.add_hookspecs(specs)
        for name, plugin in tuple(self._plugins.items()):
            try:
                manager.register(plugin, name)
                _refuse_wrappers(manager, plugin)
            except FAILURES as error:
                if manager.get_plugin(name) is not None:
                    manager.unregister(name=name)
                self._set_aside(name, error)
        self._manager = manager


@cache
def shared() -> Plugins:
    """Return the plugins of this process."""
    return Plugins()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _call_with_wanted(answer: HookImpl) -> Callable[..., object]:
    """Call *answer* with those of the facts that it names, as pluggy does."""
    wanted = answer.argnames

    def call(**facts: object) -> object:
        return answer.function(*[facts[name] for name in wanted])

    return call


def _refuse_wrappers(manager: pluggy.PluginManager, plugin: object) -> None:
    for caller in manager.get_hookcallers(plugin) or []:
        for one in caller.get_hookimpls():
            if one.plugin is plugin and (one.wrapper or one.hookwrapper):
                msg = f"{caller.name} is marked as a wrapper; a plugin may offer and listen, not change others' answers"
                raise TypeError(msg)
