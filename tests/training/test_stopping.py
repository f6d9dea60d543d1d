"""SIGTERM and Ctrl-C request a stop, and the previous handlers are restored."""

import os
import signal

import pytest

from personax.training.stopping import stop_agreed, stop_requested

pytestmark = pytest.mark.quick
SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture(autouse=True)
def received():
    """The signals that reach the previous handlers, which ignore them here."""
    numbers = []
    own = {n: signal.signal(n, lambda n, _: numbers.append(n)) for n in SIGNALS}
    yield numbers
    for number, handler in own.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_requests_a_stop_and_is_not_passed_on(number, received):
    with stop_requested() as stopping:
        assert not stopping()
        os.kill(os.getpid(), number)
        assert stopping()
        assert stopping()
    assert received == []


def test_a_single_process_stops_on_its_own_signal(received):
    with stop_agreed() as stopping:
        assert not stopping(3)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping(3)
    assert received == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_reaches_the_previous_handler(number, received):
    with stop_requested():
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert received == [number]


@pytest.mark.parametrize("fails", [False, True])
def test_the_handlers_are_restored(fails, received):
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        with stop_requested():
            assert [signal.getsignal(number) for number in SIGNALS] != before
            os.kill(os.getpid(), signal.SIGTERM)
            if fails:
                raise RuntimeError
    except RuntimeError:
        pass
    assert [signal.getsignal(number) for number in SIGNALS] == before
    os.kill(os.getpid(), signal.SIGTERM)
    assert received == [signal.SIGTERM]
