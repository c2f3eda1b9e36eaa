"""A line of history as an HTTP request."""

from __future__ import annotations

import hashlib
import hmac
import http.client
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

import orjson

from mlc_registry.errors import DeliveryError
from mlc_registry.history.chain import line_facts
from mlc_registry.history.outbox import check_address

if TYPE_CHECKING:
    from mlc_registry.records import Line

__all__ = ["Webhook"]


class Webhook:
    """Posts lines to *url*, signed with *secret* if there is one.

    The body is the line as JSON. `MLC-Signature` is `sha256=` and the HMAC-SHA256 of the body in hexadecimal digits;
    who knows the secret computes it and compares. `MLC-Line` and `MLC-Digest` tell a line that comes again.

    Raises:
        InvalidAddressError: If *url* is not http or https.
    """

    def __init__(self, url: str, *, secret: str | None = None, timeout: float = 10.0) -> None:
        self._url = check_address(url)
        self._secret = secret
        self._timeout = timeout
        self._opener = OpenerDirector()  # that of urllib.request would follow redirects, and open files
        for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler()):
            self._opener.add_handler(handler)

    def __call__(self, line: Line) -> None:
        """Send *line*.

        Raises:
            DeliveryError: If there was no answer in time, or not one from 200 to 299.
        """
        body = orjson.dumps(line_facts(line), option=orjson.OPT_SORT_KEYS)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "mlc-registry",
            "MLC-Line": str(line.number),
            "MLC-Digest": line.digest,
        }
        if self._secret is not None:
            signature = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
            headers["MLC-Signature"] = f"sha256={signature}"
        request = Request(self._url, data=body, headers=headers, method="POST")  # noqa: S310 - the scheme was checked
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                status = answer.status
        except (OSError, http.client.HTTPException) as error:
            raise DeliveryError(self._explain(line, str(error) or type(error).__name__)) from error
        if not 200 <= status < 300:
            raise DeliveryError(self._explain(line, f"it answered {status}, not 200 to 299"))

    def _explain(self, line: Line, why: str) -> str:
        host = urlsplit(self._url).netloc  # no more of it: paths and queries of webhooks are secrets
        return f"line {line.number} was not taken by {host}: {why}; it is sent again next time"
