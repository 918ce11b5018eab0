"""Interleaved timing: calls take turns, so that a drift of the machine falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

Clock = Callable[[], float]


def timed(call: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Seconds of one call."""
    began = clock()
    call()
    return clock() - began


def medians(calls: dict[str, Callable[[], object]], rounds: int, clock: Clock = time.perf_counter) -> dict[str, float]:
    """Median seconds of each call, the calls taking turns, one round uncounted.

    What computes on one thread alone may be read off `time.process_time`, which others on the machine disturb less.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            taken = timed(call, clock)
            if number:
                seconds[name].append(taken)
    return {name: median(values) for name, values in seconds.items()}
