"""Intervals by the bootstrap over instances (Efron and Tibshirani 1993, percentile interval)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Numbers = dict[str, float]
Statistic = Callable[[Sequence[int]], Numbers]


def resampled(statistic: Statistic, instances: int, resamples: int, seed: int) -> tuple[Numbers, list[Numbers]]:
    """`statistic` of all instances, and of each bootstrap draw of them.

    It maps instance numbers (with repetition) to numbers; whole instances are drawn, so that episodes that share one
    stay together. The same seed and number of instances give the same draws.

    Nearly all statistics are means or pooled rates, Σ w_i x_i / Σ w_i over the instances. Where a few trials confirm
    that, resamples are made of the x_i and w_i; anything else is computed on every draw.
    """
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(instances, size=instances) for _ in range(resamples)]
    whole = statistic(list(range(instances)))
    quick = _pooled(statistic, whole, instances, drawn) if resamples > TRIALS + 3 else None
    return whole, quick if quick is not None else [statistic(one.tolist()) for one in drawn]


TRIALS = 3
"""Draws on which the quick way must agree with the statistic itself."""
CLOSE = 1e-9


def _pooled(statistic: Statistic, whole: Numbers, instances: int, drawn: Sequence[np.ndarray]) -> list[Numbers] | None:
    """Every draw's numbers out of each instance's value and weight; None where any number is no pooled mean."""
    if instances < 3:
        return None
    keys = list(whole)
    alone = [statistic([number]) for number in range(instances)]
    value_KI = np.array([[one.get(key, math.nan) for one in alone] for key in keys]).reshape(len(keys), instances)
    low_K, high_K = (np.argmin(np.where(np.isnan(value_KI), np.inf, sign * value_KI), 1) for sign in (1, -1))
    beside: dict[tuple[int, int], Numbers] = {}

    def together(one: int, other: int) -> Numbers:
        pair = (min(one, other), max(one, other))
        if pair not in beside:
            beside[pair] = statistic(list(pair))
        return beside[pair]

    weight_KI = np.zeros_like(value_KI)
    for k, key in enumerate(keys):
        low, high = int(low_K[k]), int(high_K[k])
        x_I = value_KI[k]
        if np.isnan(x_I).all() or x_I[low] == x_I[high]:
            weight_KI[k] = ~np.isnan(x_I)
            continue

        def ratio(one: int, to: int, key: str = key, x_I: np.ndarray = x_I) -> float:
            """w_one / w_to, of two instances whose values differ."""
            mixed = together(one, to).get(key, math.nan)
            return (x_I[to] - mixed) / (mixed - x_I[one]) if mixed != x_I[one] else math.inf

        step = ratio(high, low)
        if not math.isfinite(step):
            return None
        for i in range(instances):
            if not math.isnan(x_I[i]):
                far = high if x_I[high] - x_I[i] > x_I[i] - x_I[low] else low
                weight_KI[k, i] = ratio(i, far) * (step if far == high else 1.0)
    if not np.isfinite(weight_KI).all() or (weight_KI < 0).any():
        return None
    counts_RI = np.array([np.bincount(one, minlength=instances) for one in drawn], dtype=float)
    mass_KI = weight_KI * np.nan_to_num(value_KI)
    with np.errstate(invalid="ignore", divide="ignore"):
        value_RK = (counts_RI @ mass_KI.T) / (counts_RI @ weight_KI.T)
        all_K = mass_KI.sum(1) / weight_KI.sum(1)
    trials = [(all_K, whole), *((value_RK[n], statistic(drawn[n].tolist())) for n in range(TRIALS))]
    for found_K, true in trials:
        true_K = np.array([true.get(key, math.nan) for key in keys])
        if not np.allclose(found_K, true_K, rtol=CLOSE, atol=CLOSE, equal_nan=True) or len(true) > len(keys):
            return None
    return [dict(zip(keys, row, strict=True)) for row in value_RK.tolist()]


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


def measures_of(whole: Numbers, draws: Sequence[Numbers], level: float = 0.95) -> dict[str, dict[str, float | None]]:
    """Each number with the interval of what the draws made of it."""
    return {key: measure_of(value, [one.get(key, math.nan) for one in draws], level) for key, value in whole.items()}


def interval(
    statistic: Statistic, instances: int, resamples: int, seed: int, level: float = 0.95
) -> dict[str, dict[str, float | None]]:
    """Each named number of `statistic` with its interval."""
    return measures_of(*resampled(statistic, instances, resamples, seed), level)
