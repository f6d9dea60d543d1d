"""Progress bars for terminals and log files."""

import io
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

_SECONDS = 10.0


class Progress(tqdm):
    """tqdm's bar; without a terminal, a line about every ten seconds.

    Log collectors show complete lines only, and ten updates a second would fill them.
    """

    def __init__(self, *args: Any, **options: Any):
        if not sys.stderr.isatty():
            options = {"mininterval": _SECONDS, "file": _Lines(sys.stderr), **options}
        super().__init__(*args, **options)
        self._lap = time.monotonic(), self.n

    def lap(self) -> float:
        """Units per second since the last call, or since the start."""
        (since, before), self._lap = self._lap, (time.monotonic(), self.n)
        return (self.n - before) / (self._lap[0] - since)


class _Lines:
    """A stream that turns tqdm's overwritten text into lines."""

    def __init__(self, stream: TextIO | io.TextIOBase):
        self._stream = stream

    def write(self, text: str) -> None:
        line = text.replace("\x1b[A", "").strip()
        if line:
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        self._stream.flush()
