"""Progress bars for terminals and log files."""

import contextlib
import io
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

_SECONDS = 10.0


class Progress(tqdm):
    """tqdm's bar; without a terminal, a line about every ten seconds.

    Log collectors show complete lines only, and ten updates a second would fill them.
    Where nobody reads stderr any more, nothing is shown.
    """

    def __init__(self, *args: Any, **options: Any):
        if sys.stderr is None:
            options = {**options, "disable": True}
        elif sys.stderr.isatty():
            options = {"file": _Stream(sys.stderr), **options}
        else:
            options = {"mininterval": _SECONDS, "file": _Lines(sys.stderr), **options}
        super().__init__(*args, **options)
        self._lap = time.monotonic(), self.n

    def lap(self) -> float:
        """Units per second since the last call, or since the start."""
        (since, before), self._lap = self._lap, (time.monotonic(), self.n)
        return (self.n - before) / (self._lap[0] - since)


class _Stream:
    """A stream that may be closed while it is written: a pipe, or a terminal."""

    def __init__(self, stream: TextIO | io.TextIOBase):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


class _Lines(_Stream):
    """One that turns tqdm's overwritten text into lines."""

    def write(self, text: str) -> None:
        line = text.replace("\x1b[A", "").strip()
        if line:
            super().write(f"{line}\n")
