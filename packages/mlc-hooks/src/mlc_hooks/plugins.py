"""The one plugin manager of a process: who is here, what they offer, and telling them what happened."""

from __future__ import annotations

import logging
import reprlib
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from mlc_hooks import installed
from mlc_hooks.choice import Choice, read_choice, read_strict
from mlc_hooks.errors import PluginError, UnknownNameError
from mlc_hooks.fitting import FAILURES, Answer, Candidate, Fitted
from mlc_hooks.hints import known_names, nearest
from mlc_hooks.records import Broken, Offer, Plugin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mlc_hooks.installed import Found

__all__ = ["Plugins", "open_door", "shared"]

log = logging.getLogger("mlc_hooks")

REGISTERED = "registered in this process"


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
        self._lock = (
            threading.RLock()
        )  # guards what follows; plugins' code runs outside it, or an import could deadlock
        self._candidates: dict[str, Candidate] = {}
        self._fitted = Fitted(())
        self._failed: dict[tuple[str, str], Broken] = {}
        self._left_out: tuple[str, ...] = ()
        self._loaded = False
        self._this_thread = threading.local()
        self.add_home("mlc_hooks")

    # ------------------------------------------------------------------ who takes part

    def add_home(self, package: str) -> None:
        """Let *package*, which defines hooks, take part with its own `hookspecs` and `hooks` modules.

        This is how a package finds its own parts without reading the metadata of every installed distribution.

        Raises:
            PluginError: If something else was registered under its name, or, when strict, if it does not fit.
        """
        name = package.replace("_", "-")
        known = self._candidates.get(name)
        if known is not None and known.is_home:
            return
        specs, plugin = import_module(f"{package}.hookspecs"), import_module(f"{package}.hooks")
        with self._lock:
            known = self._candidates.get(name)
            if known is not None and known.distribution == REGISTERED:
                msg = f"a plugin was registered as {name!r}, which is the name of a package that defines hooks"
                raise PluginError(msg)
            home = Candidate(name, plugin, specs, known.distribution if known else None, is_home=True)
            failed = {
                key: one for key, one in self._failed.items() if known is None or key != (name, known.distribution)
            }
            self._settle({**self._candidates, name: home}, failed)

    def register(self, plugin: object, name: str) -> None:
        """Let *plugin*, a module or an object with marked methods, take part as *name*.

        For notebooks and tests; an installed plugin is found by its entry point.

        Raises:
            PluginError: If there is a plugin of that name already, or, when strict, if it does not fit.
        """
        with self._lock:
            if name in self._candidates and name not in self._fitted.misfits:
                msg = f"a plugin named {name!r} takes part already; register this one under another name"
                raise PluginError(msg)
            failed = {key: one for key, one in self._failed.items() if key != (name, REGISTERED)}
            self._settle({**self._candidates, name: Candidate(name, plugin, distribution=REGISTERED)}, failed)

    def load(self) -> None:
        """Find the installed plugins, once: packages that define hooks, and all others that `MLC_PLUGINS` admits.

        A plugin that asks for this while it is being imported sees only who was here before.

        Raises:
            PluginChoiceError: If `MLC_PLUGINS` cannot be followed.
            PluginError: If a plugin fails and strictness was asked for.
        """
        if self._loaded or getattr(self._this_thread, "is_loading", False):
            return
        found = installed.find_plugins()
        fixed = {one.owner for one in found if one.specs}
        self._choice.check(installed={one.name for one in found}, fixed=fixed)
        chosen = [one for one in found if one.name in fixed or self._choice.admits(one.name)]
        self._this_thread.is_loading = True
        try:
            brought = [_import(one) for one in chosen]
        finally:
            self._this_thread.is_loading = False
        with self._lock:
            if not self._loaded:
                self._take_in(brought)
                self._left_out = tuple(one.name for one in found if one not in chosen)
                self._loaded = True

    # ------------------------------------------------------------------ asking and telling

    def offers(self, hook: str, *, home: str | None = None) -> tuple[Offer, ...]:
        """Return what the plugins known so far offer for *hook*, or only what *home* does, sorted by plugin.

        `load` is the caller's decision: a name that its own package offers can be found without it.

        Raises:
            UnknownNameError: If nobody defines *hook*.
            TypeError: If *hook* is an event.
        """
        while True:
            fitted = self._fitted
            facts = self._facts(fitted, hook)
            if facts:
                msg = f"{hook}({', '.join(facts)}) is an event; it is told, not asked for offers"
                raise TypeError(msg)
            if hook not in fitted.offers:
                fitted.offers[hook] = tuple(offer for answer in fitted.answers(hook) for offer in self._ask(answer))
            if fitted is self._fitted:  # or else somebody was set aside or came in, and the answer is old
                return tuple(offer for offer in fitted.offers[hook] if home is None or offer.plugin == home)

    def tell(self, hook: str, /, **facts: object) -> None:
        """Tell every plugin that listens to *hook* what happened.

        A listener that raises is logged with its name and told again next time: an event reports what is done, and
        no listener can undo it. When strict, it raises `PluginError`.

        Raises:
            UnknownNameError: If nobody defines *hook*.
            TypeError: If *facts* are not those of the hook.
        """
        listeners = self.listeners(hook)
        named = self._facts(self._fitted, hook)
        if set(named) != set(facts):
            msg = f"{hook}({', '.join(named)}) cannot be told with {', '.join(sorted(facts)) or 'no facts'}"
            raise TypeError(msg)
        for plugin, listener in listeners:
            try:
                listener(**facts)
            except FAILURES as error:
                if self._strict:
                    msg = f"plugin {plugin} failed when told {hook}: {_reason(error)}"
                    raise PluginError(msg) from error
                log.warning("plugin %s failed when told %s: %s", plugin, hook, _reason(error), exc_info=error)

    def listeners(self, hook: str) -> tuple[tuple[str, Callable[..., object]], ...]:
        """Return the plugins that listen to *hook*, as names and functions that take all its facts by keyword.

        Raises:
            UnknownNameError: If nobody defines *hook*.
        """
        self.load()
        fitted = self._fitted
        self._facts(fitted, hook)
        return tuple((answer.name, answer.tell) for answer in fitted.answers(hook))

    def is_offer(self, hook: str) -> bool:
        """Say whether *hook* asks for offers: an offer is asked with no arguments, an event tells facts."""
        facts = self._fitted.facts(hook)
        return facts is not None and not facts

    # ------------------------------------------------------------------ who is here

    @property
    def broken(self) -> tuple[Broken, ...]:
        """The plugins that were set aside, sorted by name."""
        with self._lock:
            found = (*self._failed.values(), *self._misfits(self._fitted, self._candidates))
        return tuple(sorted(found, key=lambda one: (one.name, one.distribution)))

    @property
    def left_out(self) -> tuple[str, ...]:
        """The installed plugins that `MLC_PLUGINS` does not admit, sorted."""
        return self._left_out

    def explain_absence(self) -> str:
        """Return a line for each plugin that is not here but might have offered what somebody misses."""
        lines = [f"\n  A plugin that might offer it is broken: {one}" for one in self.broken]
        lines += [f"\n  A plugin that might offer it is left out by MLC_PLUGINS: {name}" for name in self.left_out]
        return "".join(lines)

    def list_plugins(self) -> tuple[Plugin, ...]:
        """Return all plugins in use, installed ones included, sorted by name."""
        self.load()
        with self._lock:
            fitted, candidates = self._fitted, self._candidates
        return tuple(
            Plugin(name, _distribution(candidates[name]), tuple(fitted.answered(name)), tuple(fitted.unknown(name)))
            for name in fitted.names
        )

    # ------------------------------------------------------------------ the inside

    def _facts(self, fitted: Fitted, hook: str) -> Sequence[str]:
        facts = fitted.facts(hook)
        if facts is None:
            hint = f"{nearest(hook, fitted.hooks)} {known_names('Known', fitted.hooks)}"
            msg = f"No package defines the hook {hook!r}.{hint}{self.explain_absence()}"
            raise UnknownNameError(msg)
        return facts

    def _ask(self, answer: Answer) -> Iterable[Offer]:
        try:
            return _read_offer(answer)
        except FAILURES as error:
            self._set_aside(answer, error)
            return ()

    def _set_aside(self, answer: Answer, error: BaseException) -> None:
        with self._lock:
            candidate = self._candidates.get(answer.name)
            if candidate is None or candidate.plugin is not answer.plugin:
                return  # another thread did
            broken = _break(candidate, error)
            candidates = {name: one for name, one in self._candidates.items() if one is not candidate}
            if candidate.specs is not None:  # its hooks stay, for others to answer
                candidates[candidate.name] = replace(candidate, plugin=None)
            self._settle(candidates, {**self._failed, (broken.name, broken.distribution): broken})

    def _take_in(self, brought: Iterable[Candidate | Broken]) -> None:
        candidates, failed = dict(self._candidates), dict(self._failed)
        for one in brought:
            known = candidates.get(one.name)
            if isinstance(one, Broken):
                failed[one.name, one.distribution] = one
            elif known is None:
                candidates[one.name] = one
            elif known.is_home:
                candidates[one.name] = replace(known, distribution=one.distribution)
            else:
                broken = _break(one, PluginError("a plugin that was registered in this process has its name"))
                failed[broken.name, broken.distribution] = broken
        self._settle(candidates, failed)

    def _settle(self, candidates: Mapping[str, Candidate], failed: Mapping[tuple[str, str], Broken]) -> None:
        """Let those *candidates* take part that fit together, and set aside the others.

        Raises:
            PluginError: When strict and somebody would be set aside; nothing has changed then.
        """
        fitted = Fitted(candidates.values())
        news = [one for key, one in failed.items() if self._failed.get(key) is not one]
        news += [
            one
            for one in self._misfits(fitted, candidates)
            if one.name not in self._fitted.misfits or self._candidates[one.name] is not candidates[one.name]
        ]
        if news and self._strict:
            msg = f"plugin {news[0]}"
            raise PluginError(msg) from news[0].error
        self._candidates, self._failed, self._fitted = dict(candidates), dict(failed), fitted
        for one in news:
            log.warning("plugin set aside: %s", one)

    @staticmethod
    def _misfits(fitted: Fitted, candidates: Mapping[str, Candidate]) -> Sequence[Broken]:
        return [_break(candidates[name], error) for name, error in fitted.misfits.items()]


_making = threading.Lock()


def shared() -> Plugins:
    """Return the plugins of this process."""
    with _making:  # a cache alone would let two threads make two
        return _make_shared()


def open_door(home: str) -> None:
    """Find the plugins of this process now, for the package *home*, which is about to do what it will tell of.

    What is wrong with the choice of plugins is then known before work starts, and not when it is done.

    Raises:
        PluginChoiceError: If `MLC_PLUGINS` cannot be followed.
        PluginError: If a plugin fails and strictness was asked for.
    """
    shared().add_home(home)
    shared().load()


@cache
def _make_shared() -> Plugins:
    return Plugins()


def _distribution(candidate: Candidate) -> str:
    return candidate.distribution or installed.describe_distribution(candidate.name)


def _import(found: Found) -> Candidate | Broken:
    try:
        specs, hooks = found.load()
    except FAILURES as error:
        return Broken(found.name, found.distribution, _reason(error), error)
    return Candidate(found.name, hooks, specs, found.distribution)


def _break(candidate: Candidate, error: BaseException) -> Broken:
    return Broken(candidate.name, _distribution(candidate), _reason(error), error)


def _read_offer(answer: Answer) -> Sequence[Offer]:
    offered: object = answer.function()
    if not isinstance(offered, Mapping):
        msg = f"{answer.hook}() must return a mapping of names to factories, not {reprlib.repr(offered)}"
        raise TypeError(msg)
    offers = []
    for name, factory in offered.items():
        if not isinstance(name, str) or not name or ":" in name:
            msg = f"{answer.hook}() offers {name!r}; a name is text without a colon, which is for `plugin:name`"
            raise ValueError(msg)
        if not callable(factory):
            shown = reprlib.repr(factory)
            msg = f"{answer.hook}() offers {name!r} with {shown}, which is not a factory: it cannot be called"
            raise TypeError(msg)
        offers.append(Offer(name, answer.name, factory))
    return offers


def _reason(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:  # an error of somebody else's, which may not even be able to say what it is
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
