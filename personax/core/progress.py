"""Progress bars that can be read in a log file as well."""

import io
import sys
import time
from typing import Any

from tqdm import tqdm

_SECONDS = 10.0


class Progress(tqdm):
    """tqdm's bar; where no terminal looks on, a line about every ten seconds.

    A cluster's log has neither the width for ten updates a second nor a way back to the
    start of a line, without an end of which many collectors show nothing at all.
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
    """A stream on which what tqdm overwrites becomes lines."""

    def __init__(self, stream: io.TextIOBase):
        self._stream = stream

    def write(self, text: str) -> None:
        shown = text.replace("\x1b[A", "").strip()
        if shown:
            self._stream.write(f"{shown}\n")

    def flush(self) -> None:
        self._stream.flush()
