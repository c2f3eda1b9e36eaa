"""Holding candidates against each other: what fits, what does not, and who answers which hook."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

from mlc_hooks.markers import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pluggy import HookImpl

    from mlc_hooks.records import Offer

__all__ = ["FAILURES", "Answer", "Candidate", "Fitted"]

FAILURES = (Exception, SystemExit)
"""What running somebody else's code may raise and still leave us standing."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """Somebody who wants to take part."""

    name: str
    plugin: object = None
    """A module or an object with functions marked as hooks."""
    specs: object = None
    """A module that defines hooks."""
    distribution: str | None = None
    """Name and version of its distribution, or where it was registered; None is to be looked up when asked for."""
    is_home: bool = False
    """Whether the package itself came through the door, and not only its metadata."""


@dataclass(frozen=True, eq=False)
class Answer:
    """One function of a plugin that answers a hook."""

    hook: str
    name: str
    """The plugin's name."""
    plugin: object
    function: Callable[..., Any]

    def tell(self, /, **facts: object) -> None:
        """Call the function with those of the *facts* that it names, with or without a default."""
        wanted = _wanted(self.function)
        self.function(**{fact: value for fact, value in facts.items() if fact in wanted})


class Fitted:
    """The candidates that fit together.

    The outcome is the same for the same candidates in any order: homes go first, all others by name, and hooks that
    two packages define belong to neither of them, unless one alone is a home.
    """

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self.misfits: dict[str, BaseException] = {}
        """What is wrong with the candidates that do not fit, by name."""
        self.offers: dict[str, tuple[Offer, ...]] = {}
        """What was offered for the hooks asked so far."""
        self._plugins: dict[str, object] = {}
        self._manager = pluggy.PluginManager(PROJECT)
        ordered = sorted(candidates, key=lambda one: (not one.is_home, one.name))
        self._define_hooks([one for one in ordered if one.specs is not None])
        for one in ordered:
            if one.plugin is not None and one.name not in self.misfits:
                self._admit(one)

    @property
    def names(self) -> Sequence[str]:
        """The plugins that fit, sorted."""
        return sorted(self._plugins)

    @property
    def hooks(self) -> Sequence[str]:
        """All hooks that are defined, sorted."""
        return sorted(name for name, caller in vars(self._manager.hook).items() if caller.has_spec())

    def facts(self, hook: str) -> Sequence[str] | None:
        """Return the names of the facts that *hook* tells: none for an offer, None where nobody defines the hook."""
        caller = getattr(self._manager.hook, hook, None)
        if caller is None or caller.spec is None:
            return None
        return (*caller.spec.argnames, *caller.spec.kwargnames)

    def answers(self, hook: str) -> Sequence[Answer]:
        """Return who answers *hook*, sorted by plugin: `tryfirst` and `trylast` mean nothing here."""
        answers = getattr(self._manager.hook, hook).get_hookimpls()
        return [
            Answer(hook, one.plugin_name, one.plugin, one.function)
            for one in sorted(answers, key=lambda one: one.plugin_name)
            if one.plugin_name in self._plugins  # pluggy 1.5 keeps what was registered before the part that did not fit
        ]

    def answered(self, name: str) -> Sequence[str]:
        """Return the hooks that the plugin *name* answers, sorted."""
        return sorted({hook for hook, _ in self._implementations(name) if self.facts(hook) is not None})

    def unknown(self, name: str) -> Sequence[str]:
        """Return the hooks that the plugin *name* answers, that nobody defines, and that are not marked optional."""
        return sorted(
            {hook for hook, one in self._implementations(name) if self.facts(hook) is None and not one.optionalhook}
        )

    # ------------------------------------------------------------------ the inside

    def _define_hooks(self, candidates: Sequence[Candidate]) -> None:
        definers: dict[str, list[Candidate]] = {}
        for one in candidates:
            for hook in vars(one.specs):
                if self._is_spec(one.specs, hook):
                    definers.setdefault(hook, []).append(one)
        for one in candidates:
            try:
                for hook, rivals in definers.items():
                    _refuse_rivals(one, hook, rivals)
                self._manager.add_hookspecs(one.specs)  # type: ignore[arg-type]
            except FAILURES as error:
                self.misfits[one.name] = error

    def _admit(self, one: Candidate) -> None:
        same = self._manager.get_name(one.plugin)
        try:
            if same is not None:
                msg = f"it is the same module or object as plugin {same}"
                raise ValueError(msg)
            self._manager.register(one.plugin, one.name)
            self._plugins[one.name] = one.plugin
            self._refuse_bad_manners(one)
        except FAILURES as error:
            self._plugins.pop(one.name, None)
            self.misfits[one.name] = error

    def _implementations(self, name: str) -> Sequence[tuple[str, HookImpl]]:
        callers = self._manager.get_hookcallers(self._plugins[name]) or []
        return [(caller.name, one) for caller in callers for one in caller.get_hookimpls() if one.plugin_name == name]

    def _is_spec(self, namespace: object, name: str) -> bool:
        return self._manager.parse_hookspec_opts(namespace, name) is not None  # type: ignore[arg-type]

    def _refuse_bad_manners(self, candidate: Candidate) -> None:
        answered: set[str] = set()
        for hook, one in self._implementations(candidate.name):
            if one.wrapper or one.hookwrapper:
                msg = f"{hook} is marked as a wrapper; a plugin may offer and listen, not change others' answers"
                raise TypeError(msg)
            if inspect.iscoroutinefunction(one.function) or inspect.isgeneratorfunction(one.function):
                msg = f"{hook} is async or yields, so calling it would do nothing; write a plain function"
                raise TypeError(msg)
            if hook in answered:
                msg = f"{hook} is answered by two functions; write one"
                raise TypeError(msg)
            answered.add(hook)
            _refuse_unknown_facts(hook, one.function, self.facts(hook))
        for hook in self.hooks:
            function = inspect.getattr_static(candidate.plugin, hook, None)
            if hook not in answered and inspect.isroutine(function) and not self._is_spec(candidate.plugin, hook):
                msg = f"{hook} has the name of a hook but is not marked with @hookimpl"
                raise TypeError(msg)


def _wanted(function: Callable[..., object]) -> frozenset[str]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return frozenset(parameter.name for parameter in parameters if parameter.kind in named)


def _refuse_unknown_facts(hook: str, function: Callable[..., object], facts: Sequence[str] | None) -> None:
    if facts is None:
        return
    signature = inspect.signature(function)
    try:
        signature.bind(**dict.fromkeys(_wanted(function).intersection(facts)))
    except TypeError as error:
        msg = f"{hook}{signature}: {error}; the hook is {hook}({', '.join(facts)})"
        raise TypeError(msg) from None


def _refuse_rivals(one: Candidate, hook: str, definers: Sequence[Candidate]) -> None:
    rivals = [other.name for other in definers if other is not one and other.is_home >= one.is_home]
    if one in definers and rivals:
        msg = (
            f"it defines the hook {hook}, which {' and '.join(rivals)} also defines; only one of them can be installed"
        )
        raise ValueError(msg)
