"""Alternating timings of two implementations: medians and their ratio."""

import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def alternate(sides: Mapping[str, Callable[[], Any]], runs: int) -> dict[str, list]:
    """{side: seconds of each run}, alternating, after one untimed run of each side."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for run in range(runs + 1):
        for name, call in sides.items():
            # Idle threads of both libraries spin briefly: let the other's go to sleep.
            time.sleep(0.2)
            start = time.perf_counter()
            call()
            if run:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def report(
    question: str,
    seconds: Mapping[str, list[float]],
    *,
    ours: str = "personax",
    theirs: str = "torch",
    **about: Any,
) -> float:
    """Print a JSON line with medians, the ratio ours / theirs and the machine.

    Returns the ratio.
    """
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    pairs = list(zip(seconds[ours], seconds[theirs], strict=True))
    line = {
        "question": question,
        **about,
        **{f"{name}_s": round(value, 4) for name, value in medians.items()},
        "ratio": round(statistics.median(one / other for one, other in pairs), 3),
        "runs": len(pairs),
        "date": datetime.date.today().isoformat(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load": round(os.getloadavg()[0], 2),
    }
    print(json.dumps(line), flush=True)
    return line["ratio"]
