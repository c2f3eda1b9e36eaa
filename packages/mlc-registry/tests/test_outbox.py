"""Listeners: every line, in order, at least once, and twice only if somebody died."""

import contextlib
import hashlib
import hmac
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlc_registry import (
    DeliveryError,
    InvalidAddressError,
    InvalidNameError,
    Listener,
    ListenerBusyError,
    ListenerExistsError,
    ListenerNotFoundError,
    Outbox,
    StoreError,
    Webhook,
)

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "listener.py"


class Hook(http.server.BaseHTTPRequestHandler):
    """Writes down what it is sent, and answers what it is told to."""

    def do_POST(self):
        """Take a line."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.headers, body))
        answer = self.server.answers.pop(0) if self.server.answers else 204
        status = answer(self) if callable(answer) else answer
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def hook():
    """A real server on this machine: `url`, what was `heard`, and the `answers` it is to give before it is content."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        server.heard, server.answers = [], []
        server.url = f"http://127.0.0.1:{server.server_port}/lines?token=hidden"
        server.numbers = lambda: [json.loads(body)["number"] for _, body in server.heard]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def registry(place):
    """An empty registry, on each database."""
    with place.open() as opened:
        yield opened


@pytest.fixture
def filled(registry, publish):
    """Four lines, and a listener that has heard none."""
    publish("1.0.0", "1.1.0")
    registry.promote("net", "1.1.0", "production", reason="better")
    registry.yank("net", "1.0.0", "bad labels")
    registry.outbox.add("deployer", "https://deploy.example/hook", from_start=True)
    return registry


def test_listener_hears_everything_once_and_in_order(filled, publish):
    """What there was, and what comes."""
    heard = []

    assert [1, 2, 3, 4] == [one.number for one in filled.outbox.pending("deployer")]
    assert 4 == filled.outbox.deliver("deployer", heard.append)
    assert list(filled.audit.lines()) == heard
    assert 0 == filled.outbox.deliver("deployer", heard.append)
    publish("1.2.0")
    assert 1 == filled.outbox.deliver("deployer", heard.append)
    assert [1, 2, 3, 4, 5] == [one.number for one in heard]


def test_listener_starts_now_unless_it_is_told_to_start_at_the_start(filled, publish):
    """Each has its own place."""
    filled.outbox.add("late", "http://late.example")

    assert (
        Listener(name="deployer", url="https://deploy.example/hook", position=0, pending=4),
        Listener(name="late", url="http://late.example", position=4, pending=0),
    ) == filled.outbox.list()
    publish("1.2.0")
    assert [5] == [one.number for one in filled.outbox.pending("late")]
    assert (5, 1) == tuple(one.pending for one in filled.outbox.list())


def test_line_that_is_not_taken_comes_again(filled):
    """And none behind it comes before."""
    heard = []

    def send(line):
        heard.append(line.number)
        if heard in ([1, 2, 3], [1, 2, 3, 3]):
            msg = "away"
            raise OSError(msg)

    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            filled.outbox.deliver("deployer", send)
        assert 2 == filled.outbox.get("deployer").position
    assert 2 == filled.outbox.deliver("deployer", send)
    assert [1, 2, 3, 3, 3, 4] == heard


def test_one_at_a_time_delivers_to_a_listener(filled, place):
    """The second is told so at once; other listeners are not concerned."""
    filled.outbox.add("other", "http://other.example", from_start=True)
    with place.open() as second:

        def send(line):
            with pytest.raises(ListenerBusyError, match="'deployer'"):
                second.outbox.deliver("deployer", print)
            if line.number == 1:
                assert 4 == second.outbox.deliver("other", lambda line: None)

        assert 4 == filled.outbox.deliver("deployer", send)
        assert 0 == second.outbox.deliver("deployer", print)


def test_many_who_deliver_while_others_publish_neither_lose_nor_repeat(registry, place, weights):
    """Whoever is at it."""
    registry.outbox.add("deployer", "http://deploy.example")
    heard, done = [], threading.Event()

    def work():
        with place.open() as mine:
            while True:
                last = done.is_set()
                try:
                    mine.outbox.deliver("deployer", lambda line: heard.append(line.number))
                except ListenerBusyError:
                    last = False
                if last:
                    return
                time.sleep(0.002)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for one in workers:
        one.start()
    for number in range(12):
        registry.register_model("net", f"1.{number}.0", weights(str(number)))
    done.set()
    for one in workers:
        one.join()

    assert list(range(1, 13)) == heard


def test_place_that_somebody_moved_is_an_error(filled, place):
    """Rather than to go on from where one believes to be."""

    def send(line):
        place.tamper("UPDATE listener SET position = 3")

    with pytest.raises(DeliveryError, match="line 1 went to 'deployer', but its place"):
        filled.outbox.deliver("deployer", send)
    assert 3 == filled.outbox.get("deployer").position
    with pytest.raises(ListenerNotFoundError):
        filled.outbox.deliver("deployer", lambda line: filled.outbox.remove("deployer"))


def test_listeners_are_kept_by_name(filled):
    """One of each; who is not there is missed by name."""
    with pytest.raises(ListenerExistsError, match="'deployer', which has heard 0 lines"):
        filled.outbox.add("deployer", "http://other.example")
    with pytest.raises(InvalidNameError, match="cannot name a listener"):
        filled.outbox.add("../x", "http://other.example")
    for ask in (filled.outbox.get, filled.outbox.remove, lambda name: list(filled.outbox.pending(name))):
        with pytest.raises(ListenerNotFoundError, match="Did you mean 'deployer'"):
            ask("deploier")
    with pytest.raises(ListenerNotFoundError):
        filled.outbox.deliver("deploier", print)
    filled.outbox.remove("deployer")
    assert () == tuple(filled.outbox.list())


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://host/x", "http://", "host/x", "", "https://host:port/", "https://[::1/", "http:///x",
     "http://host/a b", "http://host/\n", "http://host:0/", "javascript:alert(1)", "http://höst/"],
)  # fmt: skip
def test_only_http_is_an_address(url):
    """Nothing else is ever opened."""
    with pytest.raises(InvalidAddressError, match="is no address of a listener"):
        Webhook(url)


def test_address_holds_no_password(filled):
    """Everybody could read it; nor is it in the message."""
    with pytest.raises(InvalidAddressError, match="user or a password") as caught:
        filled.outbox.add("other", "https://ann:s3cret@host/")
    assert "s3cret" not in str(caught.value)


def test_lock_that_cannot_be_made_is_said(filled, place):
    """As beside a database in a directory where nobody may write."""
    if not place.is_sqlite:
        pytest.skip("the lock is the server's")
    (place.artifacts.parent / "registry.db-outbox-deployer").mkdir()

    with pytest.raises(StoreError, match="the lock of the listener 'deployer'"):
        filled.outbox.deliver("deployer", print)


def test_following_survives_a_database_that_is_away(mlc, filled, place, hook, monkeypatch):
    """What is wrong is said, and tried again; without `--follow` it is the end."""
    from mlc_registry.commands import sending

    monkeypatch.setenv("MLC_REGISTRY", place.root)
    filled.outbox.remove("deployer")
    filled.outbox.add("hook", hook.url, from_start=True)
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    def lose(self):
        if len(naps) < 2:
            msg = "the connection was lost"
            raise StoreError(msg)
        return (Outbox.get(self, "hook"),)

    monkeypatch.setattr(sending.time, "sleep", nap)
    monkeypatch.setattr(Outbox, "list", lose)
    assert 1 == mlc("registry", "outbox", "deliver")[0]
    monkeypatch.setattr(Outbox, "get", lambda self, name: self._listeners.list_all()[0])
    status, out, err = mlc("registry", "outbox", "deliver", "--follow", "--interval", "10")

    assert (1, "hook: 4 delivered\n") == (status, out)
    assert 2 == err.count("Error: the connection was lost")
    assert [20, 40, 10] == naps


def test_store_without_listeners_says_so():
    """A plugin's may have none."""
    with pytest.raises(StoreError, match="object keeps no listeners"):
        Outbox(object())


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the pages are not beside the tests")
def test_listener_of_the_page_hears(filled):
    """It runs as it stands, believes who knows the secret, and nobody else."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(EXAMPLE), str(port)]
    environment = {**os.environ, "MLC_OUTBOX_SECRET": "sesame"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as listener:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            url = f"http://127.0.0.1:{port}/"
            filled.outbox.add("page", url, from_start=True)
            with pytest.raises(DeliveryError, match="403"):
                filled.outbox.deliver("page", Webhook(url, secret="wrong"))
            count = filled.outbox.deliver("page", Webhook(url, secret="sesame"))
            heard = [listener.stdout.readline().split()[:2] for _ in range(count)]
        finally:
            listener.terminate()

    assert [[str(one.number), one.kind.split()[0]] for one in filled.audit.lines()] == heard


def test_webhook_posts_lines_and_signs_them(filled, hook):
    """The body is the line with its digest; who knows the secret can tell that it is ours."""
    filled.outbox.deliver("deployer", Webhook(hook.url, secret="s3cret"))
    filled.outbox.add("other", hook.url)
    headers, body = hook.heard[2]
    told = json.loads(body)
    line = list(filled.audit.lines())[2]

    assert [1, 2, 3, 4] == hook.numbers()
    assert ("net", "promoted", "production", None, "1.1.0", "better", line.digest) == tuple(
        told[name] for name in ("model", "kind", "stage", "before", "after", "reason", "digest")
    )
    assert f"sha256={hmac.new(b's3cret', body, hashlib.sha256).hexdigest()}" == headers["MLC-Signature"]
    assert ("3", line.digest, "application/json") == (
        headers["MLC-Line"],
        headers["MLC-Digest"],
        headers["Content-Type"],
    )


@pytest.mark.parametrize("status", [302, 307, 400, 404, 429, 500, 503])
def test_answer_that_is_not_yes_is_no(filled, hook, status):
    """A redirection neither: it is not followed. The next attempt starts with the same line."""
    hook.answers = [200, status]
    with pytest.raises(
        DeliveryError, match=rf"line 2 was not taken by 127\.0\.0\.1:\d+: it answered {status}"
    ) as caught:
        filled.outbox.deliver("deployer", Webhook(hook.url))

    assert "hidden" not in str(caught.value)
    assert "MLC-Signature" not in hook.heard[0][0]
    assert [1, 2] == hook.numbers()
    assert 3 == filled.outbox.deliver("deployer", Webhook(hook.url))
    assert [1, 2, 2, 3, 4] == hook.numbers()


def test_answer_that_does_not_come_is_no(filled, hook):
    """In time, or at all, or in HTTP."""
    hook.answers = [lambda handler: time.sleep(0.5) or 200]
    with pytest.raises(DeliveryError, match="timed out"):
        filled.outbox.deliver("deployer", Webhook(hook.url, timeout=0.05))
    hook.answers = [lambda handler: handler.wfile.write(b"nonsense\r\n\r\n") and 200]
    with pytest.raises(DeliveryError, match="not taken"):
        filled.outbox.deliver("deployer", Webhook(hook.url))
    with pytest.raises(DeliveryError, match="refused"):
        filled.outbox.deliver("deployer", Webhook("http://127.0.0.1:1/"))

    assert 0 == filled.outbox.get("deployer").position


def test_killed_deliverer_repeats_one_line_and_loses_none(filled, hook, place):
    """Killed between the listener's yes and our note of it; whoever comes next need not wait."""
    code = """
import sys
from mlc_registry import ModelRegistry, Webhook
with ModelRegistry(sys.argv[1], artifacts=sys.argv[2]) as registry:
    registry.outbox.deliver("deployer", Webhook(sys.argv[3]))
"""

    def kill(handler):
        os.kill(process.pid, signal.SIGKILL)
        return 200

    hook.answers = [200, 200, kill]
    process = subprocess.Popen([sys.executable, "-c", code, place.root, str(place.artifacts), hook.url])
    assert -signal.SIGKILL == process.wait(30)
    for _ in range(100):  # a server sees that a client is gone when it looks
        try:
            filled.outbox.deliver("deployer", Webhook(hook.url))
        except ListenerBusyError:
            time.sleep(0.02)
        else:
            break

    assert [1, 2, 3, 3, 4] == hook.numbers()
    assert hook.heard[2][1] == hook.heard[3][1]


def test_commands_add_list_deliver_and_remove(mlc, filled, hook, place, monkeypatch):
    """Without a place for files, as none is read."""
    monkeypatch.setenv("MLC_REGISTRY", place.root)
    monkeypatch.setenv("MLC_OUTBOX_SECRET", "s3cret")
    filled.outbox.remove("deployer")

    assert 0 == mlc("registry", "outbox", "add", "late", hook.url)[0]
    added = json.loads(mlc("registry", "outbox", "add", "early", hook.url, "--from-start", "--json")[1])
    assert {"name": "early", "url": hook.url, "position": 0, "pending": 4} == added
    assert (0, "early: 4 delivered\n", "") == mlc("registry", "outbox", "deliver")
    assert "MLC-Signature" in hook.heard[0][0]
    listed = json.loads(mlc("registry", "outbox", "list", "--json")[1])
    assert [("early", 4, 0), ("late", 4, 0)] == [(one["name"], one["position"], one["pending"]) for one in listed]
    assert "early" in mlc("registry", "outbox", "list")[1]
    filled.unyank("net", "1.0.0")
    hook.answers = [500]
    status, out, err = mlc("registry", "outbox", "deliver")
    assert (1, "late: 1 delivered\n") == (status, out)
    assert "Error: early: line 5 was not taken" in err
    monkeypatch.delenv("MLC_OUTBOX_SECRET")
    assert "nothing is signed" in mlc("registry", "outbox", "deliver", "early")[2]
    sent = json.loads(mlc("registry", "outbox", "deliver", "--json")[1])
    assert [{"name": "early", "delivered": 0, "error": None}, {"name": "late", "delivered": 0, "error": None}] == sent
    assert "late" == json.loads(mlc("registry", "outbox", "remove", "late", "--json")[1])["name"]
    assert "early is forgotten\n" == mlc("registry", "outbox", "remove", "early")[1]
    assert 1 == mlc("registry", "outbox", "deliver", "early")[0]


@pytest.mark.slow
def test_following_goes_on_until_it_is_ended(filled, hook, place, publish):
    """What fails is tried again, and what happens meanwhile is sent."""
    filled.outbox.add("hook", hook.url, from_start=True)
    filled.outbox.remove("deployer")
    hook.answers = [500, 200, 500]
    command = [sys.executable, "-m", "mlc_hooks", "registry", "outbox", "deliver", "--follow", "--interval", "0.05"]
    with subprocess.Popen(
        [*command, "--registry", place.root], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        _wait(lambda: hook.numbers()[-1:] == [4])
        publish("2.0.0")
        _wait(lambda: hook.numbers()[-1:] == [5])
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

    assert [1, 1, 2, 2, 3, 4, 5] == hook.numbers()


def _wait(until):
    deadline = time.monotonic() + 40
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)
