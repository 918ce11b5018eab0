"""Intervals cover the truth as often as they say, and know which episodes belong together."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from marft.eval.intervals import clustered, instances_for, interquartile_mean, over_seeds, paired, rate, wilson

TRIALS = 2000


def instances(rng, count, plays, between=1.0, within=1.0):
    """Values of `plays` plays of each instance, whose difficulty they share; the true mean is 0."""
    value_IP = rng.normal(0, between, (count, 1)) + rng.normal(0, within, (count, plays))
    return value_IP.ravel(), np.repeat(np.arange(count), plays)


def test_a_clustered_interval_covers_the_truth_and_one_that_counts_every_episode_does_not():
    rng = np.random.default_rng(0)
    ours = naive = 0
    for _ in range(TRIALS):
        value_E, cluster_E = instances(rng, 30, 8)
        found = clustered(value_E, cluster_E)
        ours += found.low <= 0 <= found.high
        reach = stats.t.ppf(0.975, len(value_E) - 1) * value_E.std(ddof=1) / math.sqrt(len(value_E))
        naive += abs(value_E.mean()) <= reach
    assert ours / TRIALS == pytest.approx(0.95, abs=0.02)
    assert naive / TRIALS < 0.75


def test_a_rates_interval_covers_the_truth_where_plays_of_an_instance_are_alike():
    """Each instance is won with a probability of its own, Beta(2, 2): one half on average."""
    rng = np.random.default_rng(1)
    ours = naive = 0
    for _ in range(TRIALS):
        chance_I = rng.beta(2, 2, 60)
        hit_IP = rng.random((60, 6)) < chance_I[:, None]
        found = rate(hit_IP.ravel(), np.repeat(np.arange(60), 6))
        ours += found.low <= 0.5 <= found.high
        low, high = wilson(hit_IP.sum(), hit_IP.size)
        naive += low <= 0.5 <= high
    assert ours / TRIALS == pytest.approx(0.95, abs=0.02)
    assert naive / TRIALS < 0.85


def test_one_play_an_instance_is_students_interval():
    value_E = np.random.default_rng(2).normal(3, 2, 25)
    found = clustered(value_E, range(25))
    low, high = stats.t.interval(0.95, 24, value_E.mean(), stats.sem(value_E))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_wilsons_interval_against_published_figures():
    """Newcombe 1998, table I, method 3."""
    assert wilson(81, 263) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert wilson(15, 148) == (pytest.approx(0.0624, abs=1e-4), pytest.approx(0.1605, abs=1e-4))
    assert wilson(0, 20) == (0.0, pytest.approx(0.1611, abs=1e-4))
    assert wilson(1, 29) == (pytest.approx(0.0061, abs=1e-4), pytest.approx(0.1718, abs=1e-4))


@given(st.lists(st.booleans(), min_size=2, max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_rates_interval_stays_within_zero_and_one_and_holds_the_rate(hits):
    found = rate(hits, [number // 2 for number in range(len(hits))])
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert found.high > found.low


def test_pairs_take_out_what_both_sides_share():
    rng = np.random.default_rng(3)
    difficulty = rng.normal(0, 10, 50)
    ours, theirs = difficulty + 1 + rng.normal(0, 0.5, 50), difficulty + rng.normal(0, 0.5, 50)
    found = paired(ours, theirs, range(50))
    assert found.low < 1 < found.high
    assert found.half < 0.3
    assert clustered(ours, range(50)).half > 2
    with pytest.raises(ValueError, match="50 values on one side and 49"):
        paired(ours, theirs[:-1], range(50))


def test_the_middle_half_ignores_one_wild_seed():
    assert interquartile_mean([1.0, 2.0, 3.0, 1000.0]) == 2.5
    assert interquartile_mean([5.0]) == 5.0
    assert math.isnan(over_seeds([5.0]).low)


def test_an_interval_over_seeds_covers_the_truth():
    """Of a symmetric distribution the interquartile mean's truth is its centre. Few seeds make it a little short."""
    rng = np.random.default_rng(4)
    hits = sum(
        found.low <= 0 <= found.high
        for found in (over_seeds(rng.normal(size=20), resamples=400, seed=number) for number in range(600))
    )
    assert hits / 600 == pytest.approx(0.93, abs=0.03)


def test_so_many_instances_show_the_difference_so_often():
    count = instances_for(0.5, 1.0)
    assert count == 32  # ((1.95996 + 0.84162) / 0.5)² = 31.4
    rng = np.random.default_rng(5)
    shown = sum(clustered(rng.normal(0.5, 1.0, count), range(count)).low > 0 for _ in range(TRIALS))
    assert shown / TRIALS == pytest.approx(0.8, abs=0.05)
    with pytest.raises(ValueError, match="difference of 0"):
        instances_for(0.0, 1.0)
