"""How sure a measured number is: intervals that know which episodes belong together.

Episodes of one instance (one deal, one question) are alike, and so are both ways of sitting at it: the instance is what
was drawn at random, not the episode. Intervals that count every episode as one of its own are too short. Everything
here takes numbers and the clusters that they belong to; nothing here reads a file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95


class Interval(NamedTuple):
    """A number and the interval that covers the truth in `LEVEL` of all cases; `error` is its standard error, `count`
    of how many independent clusters it is made."""

    mean: float
    low: float
    high: float
    error: float
    count: int

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2


def clustered(value_E: Sequence[float], cluster_E: Sequence[object], level: float = LEVEL) -> Interval:
    """The mean of all episodes, with a standard error clustered by `cluster_E` and Student's t of clusters − 1.

    se² = G / (G − 1) · Σ_g (Σ_{i in g} (x_i − x̄))² / n² (Liang and Zeger 1986, with the usual correction for few
    clusters). NaN bounds where there are fewer than two clusters.
    """
    value_E = np.asarray(value_E, dtype=float)
    _, group_E = np.unique(np.asarray([str(one) for one in cluster_E]), return_inverse=True)
    count = int(group_E.max(initial=-1)) + 1
    mean = float(value_E.mean()) if len(value_E) else math.nan
    if count < 2:
        return Interval(mean, math.nan, math.nan, math.nan, count)
    residual_G = np.bincount(group_E, value_E - mean)
    error = math.sqrt(count / (count - 1) * float((residual_G**2).sum())) / len(value_E)
    reach = float(stats.t.ppf(0.5 + level / 2, count - 1)) * error
    return Interval(mean, mean - reach, mean + reach, error, count)


def wilson(successes: float, count: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval (1927) of a rate: it stays within [0, 1] and is not empty at 0 of n or n of n.

    count: of independent trials; it may be a fraction, see `rate`.
    """
    if not count > 0:
        return math.nan, math.nan
    z = float(stats.norm.ppf(0.5 + level / 2))
    p, spread = successes / count, z * z / count
    middle = (p + spread / 2) / (1 + spread)
    reach = z / (1 + spread) * math.sqrt(max(p * (1 - p), 0.0) / count + spread / (4 * count))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def rate(hit_E: Sequence[bool], cluster_E: Sequence[object], level: float = LEVEL) -> Interval:
    """A rate by Wilson's interval, on as many trials as the clusters are worth.

    Kish's effective sample size: n divided by the design effect, the clustered variance of the rate over that of
    independent trials. Trials are never counted as worth more than they are, nor less than their clusters.
    """
    plain = clustered(np.asarray(hit_E, dtype=float), cluster_E, level)
    n, p = len(hit_E), plain.mean
    worth = float(n)
    if plain.count >= 2 and plain.error > 0 and 0 < p < 1:
        worth = min(float(n), max(p * (1 - p) / plain.error**2, 1.0))
    elif plain.count:
        worth = float(plain.count)
    low, high = wilson(p * worth, worth, level)
    return Interval(p, low, high, plain.error, plain.count)


def paired(
    ours: Sequence[float], theirs: Sequence[float], cluster_E: Sequence[object], level: float = LEVEL
) -> Interval:
    """The mean of ours − theirs, episode by episode of the same instance and seat, clustered by instance."""
    if len(ours) != len(theirs):
        raise ValueError(f"pairs: {len(ours)} values on one side and {len(theirs)} on the other")
    return clustered(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float), cluster_E, level)


def interquartile_mean(value_S: Sequence[float]) -> float:
    """The mean of the middle half (Agarwal et al. 2021): less moved by one lucky seed than the mean, and it looks at
    more than the median does."""
    return float(stats.trim_mean(np.sort(np.asarray(value_S, dtype=float)), 0.25))


def over_seeds(value_S: Sequence[float], level: float = LEVEL, resamples: int = 2000, seed: int = 0) -> Interval:
    """The interquartile mean over training seeds, with the percentile bootstrap over seeds."""
    value_S = np.asarray(value_S, dtype=float)
    middle = interquartile_mean(value_S)
    if len(value_S) < 2:
        return Interval(middle, math.nan, math.nan, math.nan, len(value_S))
    drawn = np.random.default_rng(seed).choice(value_S, (resamples, len(value_S)))
    found = stats.trim_mean(np.sort(drawn, 1), 0.25, axis=1)
    low, high = np.quantile(found, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(middle, float(low), float(high), float(found.std(ddof=1)), len(value_S))


def instances_for(difference: float, spread: float, power: float = 0.8, level: float = LEVEL) -> int:
    """How many paired instances show a true difference of this size with this probability.

    spread: standard deviation of the paired differences, instance by instance. The normal approximation:
    n = ((z_{1−α/2} + z_power) · spread / difference)².
    """
    if not difference:
        raise ValueError("a difference of 0 cannot be shown by any number of instances")
    z = float(stats.norm.ppf(0.5 + level / 2) + stats.norm.ppf(power))
    return max(2, math.ceil((z * spread / difference) ** 2))
