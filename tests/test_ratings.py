"""Ratings against closed forms, and against an order that is known."""

import math

import numpy as np
import pytest

from marft.eval.ratings import alpha_rank, bradley_terry, plackett_luce

STRENGTH = np.array([8.0, 4.0, 2.0, 1.0, 0.5])


def simulated(games, seed=0):
    """Wins between players whose odds are the ratio of their strengths."""
    rng = np.random.default_rng(seed)
    wins = np.zeros((5, 5))
    for i in range(5):
        for j in range(i):
            won = rng.binomial(games, STRENGTH[i] / (STRENGTH[i] + STRENGTH[j]))
            wins[i, j], wins[j, i] = won, games - won
    return wins


def test_two_players_differ_by_the_log_of_their_odds():
    rating = bradley_terry(np.array([[0, 3000], [1000, 0]]), prior=1e-3)
    assert rating[0] - rating[1] == pytest.approx(400 * math.log10(3), abs=0.01)
    assert rating.mean() == pytest.approx(1500)


def test_ratings_recover_a_known_order_and_its_distances():
    rating = bradley_terry(simulated(2000))
    true = 400 * np.log10(STRENGTH)
    assert np.argsort(-rating).tolist() == [0, 1, 2, 3, 4]
    assert rating - 1500 == pytest.approx(true - true.mean(), abs=25)


def test_the_likelihood_is_highest_at_the_ratings():
    """No rating can be moved, all others as they are, without making what was seen less likely."""
    wins, prior = simulated(20), 1.0
    log_strength = (bradley_terry(wins, prior=prior) - 1500) * math.log(10) / 400

    def posterior(x):
        chance = 1 / (1 + np.exp(x[None] - x[:, None]))
        average = -np.log1p(np.exp(-x)) - np.log1p(np.exp(x))
        return (wins * np.log(chance)).sum() + prior / 2 * average.sum()

    best = max(posterior(log_strength + shift) for shift in np.linspace(-1, 1, 2001))  # ratings are centred afterwards
    for player in range(5):
        for step in (-0.05, 0.05):
            moved = log_strength.copy()
            moved[player] += step
            assert max(posterior(moved + shift) for shift in np.linspace(-1, 1, 201)) < best


def test_who_never_loses_has_a_rating_and_draws_count_half():
    rating = bradley_terry(np.array([[0, 5], [0, 0]]))
    assert np.isfinite(rating).all()
    assert rating[0] > rating[1]
    half = bradley_terry(np.zeros((2, 2)), draws_AA=np.array([[0, 6], [6, 0]]))
    assert half[0] == pytest.approx(half[1])
    with pytest.raises(ValueError, match="prior"):
        bradley_terry(np.zeros((2, 2)), prior=0.0)
    with pytest.raises(ValueError, match="square"):
        bradley_terry(np.zeros((2, 3)))


def test_openskill_recovers_the_order():
    pytest.importorskip("openskill")
    rng = np.random.default_rng(1)
    matches = []
    for _ in range(600):
        i, j = rng.choice(5, 2, replace=False)
        first = rng.random() < STRENGTH[i] / (STRENGTH[i] + STRENGTH[j])
        matches.append({f"p{i}": float(first), f"p{j}": float(not first)})
    found = plackett_luce(matches)
    assert sorted(found, key=lambda name: -found[name][0]) == [f"p{number}" for number in range(5)]
    assert all(deviation < 25 / 3 for _, deviation in found.values())


def test_alpha_rank_shares_a_circle_and_crowns_who_dominates():
    pytest.importorskip("pyspiel")
    assert alpha_rank(np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])) == pytest.approx([1 / 3] * 3, abs=1e-6)
    assert alpha_rank(np.array([[3, 3], [1, 1]]))[0] > 0.99
