"""Intervals by the bootstrap over instances (Efron and Tibshirani 1993, percentile interval)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Numbers = dict[str, float]


def resampled(
    statistic: Callable[[Sequence[int]], Numbers], instances: int, resamples: int, seed: int
) -> tuple[Numbers, list[Numbers]]:
    """`statistic` of all instances, and of each bootstrap draw of them.

    It maps instance numbers (with repetition) to numbers; whole instances are drawn, so that episodes that share one
    stay together. The same seed and number of instances give the same draws.
    """
    rng = np.random.default_rng(seed)
    whole = statistic(list(range(instances)))
    return whole, [statistic(rng.integers(instances, size=instances).tolist()) for _ in range(resamples)]


def measure_of(value: float, drawn: Sequence[float], level: float = 0.95) -> dict[str, float | None]:
    """A number with the percentile interval of its resamples: {"mean", "low", "high"}.

    NaN (nothing was observed) is None; resamples that are NaN are left out of the interval, and where that leaves none,
    low and high are None.
    """
    if not math.isfinite(value):
        return {"mean": None, "low": None, "high": None}
    found = np.array(drawn, dtype=float)
    seen = found[np.isfinite(found)]
    tail = (1 - level) / 2
    low, high = np.quantile(seen, [tail, 1 - tail]).tolist() if len(seen) else (None, None)
    return {"mean": value, "low": low, "high": high}


def interval(
    statistic: Callable[[Sequence[int]], Numbers], instances: int, resamples: int, seed: int, level: float = 0.95
) -> dict[str, dict[str, float | None]]:
    """Each named number of `statistic` with its interval."""
    whole, draws = resampled(statistic, instances, resamples, seed)
    return {key: measure_of(value, [one.get(key, math.nan) for one in draws], level) for key, value in whole.items()}
