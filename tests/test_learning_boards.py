"""Strategy games are learned as their recipes promise: Kuhn poker towards an equilibrium, tic-tac-toe not to lose."""

from pathlib import Path

import pytest

from marft.eval.arena import evaluate
from marft.eval.text_policy import exploitability_of
from marft.recipe import load_recipe
from marft.train.loop import train

pytestmark = pytest.mark.learning

RECIPES = Path(__file__).parents[1] / "recipes"
UNIFORM = 11 / 12
"""NashConv of even chances everywhere in Kuhn poker: best responses win 1/2 and 5/12."""


def test_self_play_comes_within_a_third_of_uniform_plays_nash_conv(cache, tmp_path):
    recipe = load_recipe(RECIPES / "kuhn_poker" / "rae.yaml", ["trackers=[]"])
    assert exploitability_of(train(recipe, tmp_path / "run")).nash_conv < UNIFORM / 3


def test_tic_tac_toe_is_seldom_lost_to_a_random_player_from_either_side(cache, tmp_path):
    """A shorter run than the recipe's. The model loses 0.28 of these games after its warm-up, a random player 0.44."""
    recipe = load_recipe(RECIPES / "tic_tac_toe" / "mars.yaml", ["trackers=[]", "train.updates=40"])
    run = train(recipe, tmp_path / "run")
    (found,) = evaluate({"run": run}, tmp_path / "eval", against="random", episodes=100, resamples=20)["pairs"][1:]
    assert found["opponent"] == "random"
    assert found["seats"] == ["alice", "bob"]
    assert found["metrics"]["loss"]["mean"] < 0.16
