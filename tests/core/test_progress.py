"""A bar on a terminal goes over itself; in a file it is a few whole lines."""

import io

import pytest

from personax.core.progress import Progress

pytestmark = pytest.mark.quick


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream, monkeypatch, **options):
    monkeypatch.setattr("sys.stderr", stream)
    for _ in Progress(range(1000), "drawing", unit="image", **options):
        pass
    return stream.getvalue()


def test_a_file_gets_the_first_line_and_the_last(monkeypatch):
    text = shown(io.StringIO(), monkeypatch)
    first, last = text.splitlines()
    assert "\r" not in text
    assert first.startswith("drawing:   0%")
    assert last.startswith("drawing: 100%")
    assert "1000/1000" in last


def test_of_what_is_cleared_in_the_end_the_first_line_is_left(monkeypatch):
    text = shown(io.StringIO(), monkeypatch, leave=False)
    (line,) = text.splitlines()
    assert line.startswith("drawing:   0%")


def test_a_lap_is_what_was_done_since_the_last(monkeypatch):
    clock = iter((10.0, 14.0, 16.0, 17.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    bar = Progress(total=9, disable=True, initial=1)
    assert bar.lap() == 0.0
    bar.n += 6
    assert bar.lap() == 3.0
    assert bar.lap() == 0.0


def test_a_terminal_gets_the_bar_as_it_is(monkeypatch):
    text = shown(Terminal(), monkeypatch)
    assert text.count("\r") > 1
    assert text.count("\n") == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_a_stream_that_is_closed_ends_nothing(monkeypatch, terminal):
    class Closed(Terminal):
        def isatty(self):
            return terminal

        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

        def flush(self):
            self.write("")

    monkeypatch.setattr("sys.stderr", Closed())
    assert sum(1 for _ in Progress(range(1000), mininterval=0)) == 1000
    monkeypatch.setattr("sys.stderr", None)
    assert sum(1 for _ in Progress(range(1000))) == 1000
