"""Listeners hear every line of the history: in order, at least once, whoever is killed in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mlc_hooks.hints import known_names, nearest
from mlc_registry.errors import DeliveryError, InvalidAddressError, InvalidNameError, ListenerNotFoundError, StoreError
from mlc_registry.names import check_listener
from mlc_registry.requirements import require_kind, require_text, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlc_registry.protocols import Ledger, Listeners, Store
    from mlc_registry.records import Line, Listener

__all__ = ["Outbox", "check_address"]

PAGE = 100


class Outbox:
    """Listeners, each with its place in the history.

    Nothing has to be sent when something happens: the history is the queue, and a listener that was away for a month
    hears all of it, in order. Its place moves on once it has taken a line, so whoever is killed in between delivers
    that line once more; its number and its digest say so.
    """

    def __init__(self, store: Store) -> None:
        ledger: Ledger | None = getattr(store, "ledger", None)
        listeners: Listeners | None = getattr(store, "listeners", None)
        if ledger is None or listeners is None:
            msg = f"{type(store).__name__} keeps no listeners"
            raise StoreError(msg)
        self._ledger = ledger
        self._listeners = listeners

    def add(self, name: str, url: str, *, from_start: bool = False) -> Listener:
        """Let the listener *name* at *url* hear what happens from now on, or, if *from_start*, everything.

        Raises:
            InvalidNameError: If *name* is not small letters, digits and `_-`.
            InvalidAddressError: If *url* is not http or https.
            ListenerExistsError: If there is one of that name.
        """
        check_listener(name)
        check_address(url)
        self._listeners.add(name, url, position=0 if from_start else self._ledger.read_head()[0])
        return self.get(name)

    def remove(self, name: str) -> None:
        """Forget a listener.

        Raises:
            ListenerNotFoundError: If there is none of that name.
        """
        self.get(name)
        self._listeners.remove(name)

    def list(self) -> Sequence[Listener]:
        """Return all listeners by name."""
        return self._listeners.list_all()

    def get(self, name: str) -> Listener:
        """Return one listener.

        Raises:
            ListenerNotFoundError: If there is none of that name; says which there are.
        """
        require_text(name, "the name of a listener", error=InvalidNameError)
        known = {one.name: one for one in self.list()}
        if name not in known:
            msg = f"there is no listener {show(name)}.{nearest(name, known)} {known_names('Known', list(known))}"
            raise ListenerNotFoundError(msg)
        return known[name]

    def pending(self, name: str) -> Iterator[Line]:
        """Return the lines that a listener has not heard, in order.

        Raises:
            ListenerNotFoundError: If there is none of that name.
        """
        position = self.get(name).position
        while page := self._ledger.read_lines(after=position, limit=PAGE):
            yield from page
            position = page[-1].number

    def deliver(self, name: str, send: Callable[[Line], object]) -> int:
        """Give *send* every line that a listener has not heard, one after the other; return how many.

        A line is heard once *send* has returned. Whatever *send* raises ends it, and that line comes again next time.

        Raises:
            ListenerNotFoundError: If there is none of that name, or no more.
            ListenerBusyError: If somebody else delivers to it at this moment.
        """
        self.get(name)  # before anything is held in its name
        require_kind(send, Callable, "send: a Webhook, or a function that takes a line,", error=InvalidAddressError)
        count = 0
        with self._listeners.hold(name):
            position = self.get(name).position
            for line in self.pending(name):
                send(line)
                if not self._listeners.move(name, before=position, after=line.number):
                    self.get(name)
                    why = "its place in the history was moved meanwhile, by somebody else; deliver again"
                    msg = f"line {line.number} went to {name!r}, but {why}"
                    raise DeliveryError(msg)
                position = line.number
                count += 1
        return count


def check_address(url: str) -> str:
    """Return *url* if lines can be sent there.

    Raises:
        InvalidAddressError: If it is not http or https, or holds a password.
    """
    require_text(url, "the address of a listener", error=InvalidAddressError)
    try:
        parts = urlsplit(url)
        has_place = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        parts, has_place = urlsplit(""), False
    shown = show(url)
    if "@" in parts.netloc:
        msg = "the address holds a user or a password, which everybody could read; sign with a secret instead"
        raise InvalidAddressError(msg)
    if (
        parts.scheme not in {"http", "https"}
        or not has_place
        or not url.isprintable()
        or " " in url
        or not url.isascii()
    ):
        msg = f"{shown} is no address of a listener; write https://host/path"
        raise InvalidAddressError(msg)
    return url
