"""Readers with known faults, for the tests of `benchmarks.fuzz`."""

import os
import signal
import time

from benchmarks.fuzz_readers import Reader

_WHOLE = b"a dog"


def _reader(fail):
    """Reads the seed; `fail` is called with every other content."""

    def read(folder):
        data = (folder / "dog.txt").read_bytes()
        if data != _WHOLE:
            fail(data)

    return Reader(lambda: [{"dog.txt": _WHOLE}], read)


def _refuse(data):
    raise ValueError(f"dog.txt is damaged: {data[:8]!r}.")


def _refuse_without_a_name(data):
    raise ValueError("it is damaged")


def _trip(data):
    return {}[data]


def _die(data):
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang(data):
    time.sleep(600)


def _fill(data):
    return bytearray(2**33)


READERS = {
    "careful": _reader(_refuse),
    "unnamed": _reader(_refuse_without_a_name),
    "trips": _reader(_trip),
    "dies": _reader(_die),
    "hangs": _reader(_hang),
    "fills": _reader(_fill),
    "refuses its seeds": Reader(lambda: [{"dog.txt": b""}], _trip),
}
