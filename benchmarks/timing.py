"""Interleaved timing: calls take turns, so that a drift of the machine falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def medians(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each call, the calls taking turns, one round uncounted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            taken = timed(call)
            if number:
                seconds[name].append(taken)
    return {name: median(values) for name, values in seconds.items()}
