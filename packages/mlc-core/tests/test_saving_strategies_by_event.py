"""When to save: what happens to the process, and what one's own function says."""

import os
import signal
import threading

import attrs
import pytest

from mlc_core import ConfigurationError, Moment
from mlc_core.strategies import Epoch, FromFunction, OnException, OnSignal

NOTHING = Moment(model="m", epoch=None, step=None, epoch_ended=False, metrics={}, monitor=None, best=None, latest=None)


def end(exception):
    """Return the moment at which *exception* ends the training."""
    return attrs.evolve(NOTHING, exception=exception)


@pytest.fixture(autouse=True)
def handlers_as_before():
    """No test leaves a handler behind."""
    kinds = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
    before = [signal.getsignal(one) for one in kinds]
    yield
    assert before == [signal.getsignal(one) for one in kinds]


# ---------------------------------------------------------------------- exceptions


def test_exceptions_are_chosen_by_name():
    """Any, only some, or all but some; without one nothing is saved."""
    interrupt, memory = end("KeyboardInterrupt"), end("OutOfMemoryError")

    assert "KeyboardInterrupt ends the training" == OnException().should_save(interrupt)
    assert OnException(only=["KeyboardInterrupt"]).should_save(memory) is None
    assert OnException(only=["KeyboardInterrupt"]).should_save(interrupt)
    assert OnException(ignore=["OutOfMemoryError"]).should_save(memory) is None
    assert OnException(ignore=["OutOfMemoryError"]).should_save(interrupt)
    assert OnException(only=[]).should_save(memory) is None
    assert OnException().should_save(NOTHING) is None


def test_one_name_is_no_list_of_letters():
    """It is refused, and the message says how to write it."""
    with pytest.raises(ConfigurationError, match=r"write \['KeyboardInterrupt'\]"):
        OnException(only="KeyboardInterrupt")


# ---------------------------------------------------------------------- signals


def test_moment_after_a_signal_is_saved_once():
    """Whichever of them came, however often."""
    with OnSignal() as strategy:
        assert [None, None] == [strategy.received, strategy.should_save(NOTHING)]
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

        assert "SIGTERM" == strategy.received
        assert ["SIGTERM received", None] == [strategy.should_save(NOTHING) for _ in range(2)]
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)

        assert ["SIGUSR1 and SIGTERM received", None] == [strategy.should_save(NOTHING) for _ in range(2)]
        assert "SIGTERM" == strategy.received


def test_handler_before_is_called_and_put_back():
    """A signal still does what it did; one that ended the process, no more."""
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        with OnSignal(signals=["SIGUSR2"]) as strategy:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert "SIGUSR2 received" == strategy.should_save(NOTHING)
        strategy.close()
        os.kill(os.getpid(), signal.SIGUSR2)

        assert [signal.SIGUSR2] * 2 == heard
        assert strategy.should_save(NOTHING) is None
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_two_hear_the_same_signal():
    """Each in its turn, and closed in any order they leave nothing behind that saves."""
    first, second = OnSignal(), OnSignal()
    os.kill(os.getpid(), signal.SIGTERM)
    assert [1, 1] == [1 for one in (first, second) if one.should_save(NOTHING)]
    first.close()
    os.kill(os.getpid(), signal.SIGTERM)

    assert first.should_save(NOTHING) is None
    assert "SIGTERM received" == second.should_save(NOTHING)
    second.close()
    first.close()


def test_interrupt_still_interrupts():
    """Python's own handler is called as before."""
    with OnSignal(signals=["SIGINT"]) as strategy:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert strategy.should_save(end("KeyboardInterrupt")) is None
        assert "SIGINT received" == strategy.should_save(NOTHING)


def test_signal_waits_for_the_end_of_the_epoch():
    """Joined by `&`, it is not lost until both want it."""
    with OnSignal() as on_signal:
        strategy = on_signal & Epoch()
        os.kill(os.getpid(), signal.SIGTERM)
        ended = attrs.evolve(NOTHING, epoch_ended=True)

        assert [None, "SIGTERM received; end of the epoch", None] == [
            strategy.should_save(one) for one in (NOTHING, ended, ended)
        ]


def test_combination_closes_its_parts():
    """Those that have something to close."""
    on_signal = OnSignal()
    strategy = Epoch() | (on_signal & Epoch())
    strategy.close()
    before = on_signal.received
    with OnSignal():
        os.kill(os.getpid(), signal.SIGTERM)

    assert before is on_signal.received is None


def test_another_thread_cannot_handle_signals():
    """It is told where to make it."""
    found = []

    def make():
        with pytest.raises(ConfigurationError, match="only in the main thread: make OnSignal there") as caught:
            OnSignal()
        found.append(caught.value)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()

    assert 1 == len(found)


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        (["SIGTERM", "SIGKILL"], "SIGKILL cannot be handled"),
        (["SIGNOTHING"], "must be names of signals as .*SIGTERM"),
        ([], "must be names of signals"),
        ("SIGTERM", "is one name where a list"),
    ],
)
def test_impossible_signals_are_refused(signals, message):
    """And those that were installed before are put back, as the fixture of this module checks."""
    with pytest.raises(ConfigurationError, match=message):
        OnSignal(signals=signals)


def test_handler_that_could_not_be_put_back_is_left_alone(monkeypatch):
    """One that a library in C has set."""
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda _: None)
        with pytest.raises(ConfigurationError, match="SIGTERM cannot be handled: its handler was not set by Python"):
            OnSignal()


# ---------------------------------------------------------------------- functions


class Weekly:
    """A callable object."""

    def __call__(self, asked):
        """Want what is asked for."""
        return asked.epoch % 7 == 0


def own(asked):
    """Be sure."""
    return True


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (own, "own says so"),
        (lambda asked: 1, "the given function says so"),
        (lambda asked: asked.epoch == 7, "the given function says so"),
        (Weekly(), "Weekly says so"),
        (lambda asked: "it is\n  time ", "it is time"),
        (lambda asked: " ", None),
        (lambda asked: None, None),
        (lambda asked: False, None),
    ],
    ids=range(8),
)
def test_answers_of_functions(function, answer):
    """A reason, or something true or false."""
    assert answer == FromFunction(function).should_save(attrs.evolve(NOTHING, epoch=7))


def test_function_that_is_none_is_refused():
    """When it is given."""
    with pytest.raises(ConfigurationError, match="5 is no function of a moment"):
        FromFunction(5)


def test_function_that_fails_is_heard():
    """A bug in it is not taken for a no."""
    with pytest.raises(ZeroDivisionError):
        FromFunction(lambda asked: 1 / 0).should_save(NOTHING)
