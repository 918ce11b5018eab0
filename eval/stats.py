"""Intervals by the bootstrap over instances (Efron and Tibshirani 1993, percentile interval)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def interval(
    statistic: Callable[[list[int]], dict[str, float]], instances: int, resamples: int, seed: int, level: float = 0.95
) -> dict[str, dict[str, float | None]]:
    """Each named number of `statistic` with its percentile interval: {"mean", "low", "high"}.

    `statistic` maps instance numbers (with repetition) to numbers; whole instances are drawn, so that episodes that
    share one stay together. A number that is NaN (nothing was observed) is None; resamples in which it is NaN or
    missing are left out of its interval, and where that leaves none, low and high are None.
    """
    rng = np.random.default_rng(seed)
    whole = statistic(list(range(instances)))
    drawn = [statistic(rng.integers(instances, size=instances).tolist()) for _ in range(resamples)]
    tail = (1 - level) / 2
    result: dict[str, dict[str, float | None]] = {}
    for key, value in whole.items():
        if math.isnan(value):
            result[key] = {"mean": None, "low": None, "high": None}
            continue
        found = np.array([one.get(key, math.nan) for one in drawn])
        seen = found[~np.isnan(found)]
        low, high = np.quantile(seen, [tail, 1 - tail]).tolist() if len(seen) else (None, None)
        result[key] = {"mean": value, "low": low, "high": high}
    return result
