"""Names to factories: what callers see instead of hooks."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from mlc_hooks.errors import AmbiguousNameError, OptionsError, UnknownNameError
from mlc_hooks.hints import known_names, nearest
from mlc_hooks.plugins import Plugins, shared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlc_hooks.records import Offer

__all__ = ["Catalog"]

T = TypeVar("T")


class Catalog(Generic[T]):
    """All things of one kind that can be had by name.

    The names of the package that defines the kind always win and are found without looking for plugins. A name that
    two other plugins offer must be spelled `plugin:name`; every name may be.

    Args:
        kind: What the things are, for messages: "save strategy".
        hook: The hook that offers them.
        home: Import name of the package that defines the kind.
        plugins: Where to look; the default is the plugins of this process.
    """

    def __init__(self, kind: str, *, hook: str, home: str, plugins: Plugins | None = None) -> None:
        self._kind = kind
        self._hook = hook
        self._home = home.replace("_", "-")
        self._plugins = shared() if plugins is None else plugins
        self._plugins.add_home(home)

    def make(self, name: str, /, *arguments: object, **options: object) -> T:
        """Make the thing called *name* with the *arguments* and *options* that its factory takes.

        Raises:
            UnknownNameError: If nothing is offered under *name*; says what is close and which plugin is broken.
            AmbiguousNameError: If two plugins offer *name*.
            OptionsError: If the factory does not take those options, before anything is made.
        """
        offer = self.find(name)
        try:
            signature = inspect.signature(offer.factory)
        except (TypeError, ValueError):  # a factory written in C may have none
            return cast("T", offer.factory(*arguments, **options))
        try:
            signature.bind(*arguments, **options)
        except TypeError as error:
            takes = ", ".join(signature.parameters) or "no options"
            msg = f"{self._kind} {name!r}: {error}; it takes: {takes}"
            raise OptionsError(msg) from None
        return cast("T", offer.factory(*arguments, **options))

    def find(self, name: str) -> Offer:
        """Return the offer called *name*.

        Raises:
            UnknownNameError, AmbiguousNameError: As `make`.
        """
        own = [one for one in self._plugins.offers(self._hook, home=self._home) if name in {one.name, one.full_name}]
        if own:
            return own[0]
        found = [one for one in self.offers() if name in {one.name, one.full_name}]
        if not found:
            raise UnknownNameError(self._explain_miss(name))
        if len(found) > 1:
            spellings = " or ".join(repr(one.full_name) for one in found)
            msg = f"{self._kind} {name!r} is offered more than once; say {spellings}"
            raise AmbiguousNameError(msg)
        return found[0]

    def offers(self) -> Sequence[Offer]:
        """Return every offer of every plugin, sorted by name and plugin."""
        self._plugins.load()
        return sorted(self._plugins.offers(self._hook), key=lambda one: (one.name, one.plugin))

    def names(self) -> tuple[str, ...]:
        """Return the names that `make` takes, each in its shortest unambiguous spelling."""
        return tuple(sorted(self.spell(offer) for offer in self.offers()))

    def spell(self, offer: Offer) -> str:
        """Return the shortest spelling of *offer* that is not ambiguous."""
        self._plugins.load()
        rivals = [one for one in self._plugins.offers(self._hook) if one.name == offer.name]
        return offer.name if len(rivals) == 1 or offer.plugin == self._home else offer.full_name

    def factory(self, name: str) -> Callable[..., Any]:
        """Return the factory behind *name*."""
        return self.find(name).factory

    def _explain_miss(self, name: str) -> str:
        known = self.names()
        hint = f"{nearest(name, known)} {known_names('Known', known)}"
        return f"Unknown {self._kind} {name!r}.{hint}{self._plugins.explain_absence()}"
