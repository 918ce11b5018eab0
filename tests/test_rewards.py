"""Reward functions: the built-in ones by hand, and what becomes of a user's, good or bad."""

import numpy as np
import pytest

from marft.episode import Episode, Turn
from marft.errors import RecipeError, RewardError
from marft.rewards import REWARDS, load_reward, takes_all
from marft.train.rewarding import score


def played() -> Episode:
    """Three steps; b is silent at the last, c all the time; two answers are unreadable, both b's at step 1."""
    turns = [Turn("a", step, 0, "x", "") for step in range(3)] + [Turn("b", 0, 1, "y", "")]
    turns += [Turn("b", 1, order, "y", "", invalid=True) for order in (1, 2)]
    rewards = [{"a": 1.0}, {"a": -2.5, "b": 4.0}, {"b": 0.5}]
    team = {"a": "x", "b": "y", "c": "z"}
    return Episode("e7", "g", ("a", "b", "c"), team, 0, turns=turns, rewards=rewards)


def scored(function, weight=1.0) -> dict:
    episode = played()
    score(episode, {"mine": (function, weight)})
    return episode.terms["mine"]


def test_payoff_is_what_the_rules_paid_at_each_step():
    assert scored(load_reward("payoff")) == {"a": [1.0, -2.5, 0.0], "b": [0.0, 4.0, 0.5], "c": [0.0, 0.0, 0.0]}
    assert scored(load_reward("payoff", {"scale": 0.2}))["b"] == pytest.approx([0.0, 0.8, 0.1])


def test_unreadable_answers_are_charged_where_they_were_given():
    assert scored(load_reward("invalid_answer"))["b"] == [0.0, -2.0, 0.0]
    assert scored(load_reward("invalid_answer", {"value": 0.25}), weight=-4.0)["b"] == [0.0, -2.0, 0.0]
    assert set(scored(load_reward("invalid_answer"))["a"]) == {0.0}


def test_one_number_is_paid_at_the_seats_last_step():
    given = {"a": 2, "b": np.float32(3.0), "c": 5.0}  # c never acted: it still counts in what a team earned
    assert scored(lambda episode: given, weight=0.5) == {"a": [0, 0, 1.0], "b": [0, 1.5, 0], "c": [0, 0, 2.5]}


def test_numbers_per_step_are_paid_at_each_and_weighed():
    given = {"a": (1, 2, 3), "b": np.array([0.5, 0.0, -1.0])}
    assert scored(lambda episode: given, weight=-2.0) == {"a": [-2.0, -4.0, -6.0], "b": [-1.0, 0.0, 2.0]}


def test_terms_are_kept_apart_under_their_names():
    episode = played()
    score(episode, {"payoff": (load_reward("payoff"), 1.0), "bonus": (lambda episode: {"a": 1.0}, 3.0)})
    assert episode.terms["payoff"]["a"] == [1.0, -2.5, 0.0]
    assert episode.terms["bonus"] == {"a": [0.0, 0.0, 3.0]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": float("nan")}, r"gave a .*nan.* on e7; rewards must be finite numbers"),
        ({"a": [0.0, float("inf"), 0.0]}, "gave a .*inf.*must be finite"),
        ({"a": [1.0]}, "gave a 1 values for 3 steps on e7"),
        ({"a": [[1.0], [2.0], [3.0]]}, "gave a"),
        ({"a": "1"}, "gave a the text '1'"),
        ({"a": None}, "gave a .*NoneType.* on e7"),
        ({"d": 1.0}, "names a seat 'd' that g does not have"),
        (None, "raised TypeError"),
        (3.0, "raised TypeError"),
    ],
)
def test_what_is_no_reward_is_refused_by_name(given, message):
    with pytest.raises(RewardError, match=f"reward mine {message}"):
        scored(lambda episode: given)


def test_a_reward_that_raises_is_named_with_its_cause_and_episode():
    with pytest.raises(RewardError, match=r"reward mine raised ZeroDivisionError: .* on e7"):
        scored(lambda episode: 1 / 0)


def test_a_users_reward_comes_from_its_file_with_its_options(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def kind(episode, bonus=1.0, **more):\n    return {'a': bonus + len(more)}\n\nnumber = 3\n")
    assert scored(load_reward(f"{path}:kind", {"bonus": 2.5, "anything": 1}))["a"] == [0.0, 0.0, 3.5]
    with pytest.raises(RecipeError, match=r"rewards\[1\].use: .* is not a function but int"):
        load_reward(f"{path}:number", {}, "rewards[1]")
    with pytest.raises(RecipeError, match="has no 'kin'; did you mean 'kind'"):
        load_reward(f"{path}:kin")
    with pytest.raises(RecipeError, match="no file"):
        load_reward(f"{tmp_path}/gone.py:kind")


def test_wrong_names_and_options_are_met_with_the_nearest():
    with pytest.raises(RecipeError, match="no reward 'payof'; did you mean 'payoff'"):
        load_reward("payof")
    with pytest.raises(RecipeError, match=r"rewards\[0\].options.scal: .*did you mean 'scale'"):
        load_reward("payoff", {"scal": 2.0}, "rewards[0]")


def test_every_reward_of_the_table_says_what_it_pays_and_pays_every_seat():
    options = {"length": {"unit": "words"}, "writing": {"seats": ["a", "b"]}}
    for name, function in REWARDS.items():
        assert function.__doc__, name
        if not takes_all(function):
            episode = played()
            episode.facts = {"answer": "12", "roles": {"a": "solver", "b": "evaluator", "c": "scorer"}}
            assert set(function(episode, **options.get(name, {}))) == {"a", "b", "c"}, name
