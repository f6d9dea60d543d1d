"""Seconds by stage."""

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Accumulates seconds by stage, in order; `with watch("load"): …`."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    def __str__(self) -> str:
        stages = [f"{stage} {spent:.1f} s" for stage, spent in self.seconds.items()]
        return ", ".join(stages)
