"""SIGTERM and Ctrl-C: noted once, and what handled them before does so again."""

import os
import signal

import pytest

from personax.training.stopping import stop_agreed, stop_requested

pytestmark = pytest.mark.quick
SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture(autouse=True)
def heard():
    """The signals that the handlers from before got, which raise none here."""
    numbers = []
    own = {n: signal.signal(n, lambda n, _: numbers.append(n)) for n in SIGNALS}
    yield numbers
    for number, handler in own.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_held_back(number, heard):
    with stop_requested() as stopping:
        assert not stopping()
        os.kill(os.getpid(), number)
        assert stopping()
        assert stopping()
    assert heard == []


def test_a_process_on_its_own_agrees_with_itself(heard):
    with stop_agreed() as stopping:
        assert not stopping(3)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping(3)
    assert heard == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_one_is_not_held_back(number, heard):
    with stop_requested():
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert heard == [number]


@pytest.mark.parametrize("fails", [False, True])
def test_the_handlers_are_restored(fails, heard):
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
    assert heard == [signal.SIGTERM]
